"""Assignments and what came of them, as rows: written at once, so that the next message of a batch is judged by them.

Of a device's assignments one counts; the others are history, by which late words are still known.
Source: upgrade_state.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import sqlite

from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase
from fleetward_server.store import rows
from fleetward_server.store.ground import Ground
from fleetward_server.store.lookups import slices
from fleetward_server.store.masses import MassUnit
from fleetward_server.store.rows import Values
from fleetward_server.store.statements import upsert
from fleetward_server.store.upgrade_rows import (
    from_assignment,
    from_upgrade,
    from_wanted,
    to_assignment,
    to_upgrade,
    to_wanted,
)
from fleetward_server.store.upgrade_tables import assignment_releases, assignments, taken_assignments, upgrades
from fleetward_server.upgrade_state import (
    Assignment,
    AssignmentSent,
    AssignmentWanted,
    PutAssignment,
    PutUpgrade,
    TookAssignment,
    Upgrade,
    Wanted,
)

_all, _releases, _upgrades, _taken = assignments, assignment_releases, upgrades, taken_assignments
_AT_END = select(_upgrades.c.name).where(
    _upgrades.c.device_id == _all.c.device_id,
    _upgrades.c.name == _releases.c.name,
    _upgrades.c.assignment == _all.c.version,
    # No IN: its list is written out for each run, and these run many at once.
    or_(_upgrades.c.phase == Phase.COMMITTED, _upgrades.c.phase == Phase.REFUSED),
)
_UNFINISHED = select(_releases.c.name).where(
    _releases.c.device_id == _all.c.device_id,
    _releases.c.version == _all.c.version,
    ~_AT_END.correlate_except(_upgrades).exists(),
)
_AGAIN = (
    update(_all)
    .where(
        _all.c.device_id == bindparam("who"),
        _all.c.counts.is_(True),
        or_(_all.c.seen.is_(False), _UNFINISHED.correlate(_all).exists()),
    )
    .values(send_at=bindparam("at"))
)
"""A word that a crash of the device lost is said again: it tells how far it is whenever its assignment comes."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A device that spoke of an assignment newer than the one that counts here."""

    device_id: DeviceId
    version: int
    since: datetime


class UpgradeUnit(MassUnit):
    """The part of a transaction that is about upgrades."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._came: dict[DeviceId, datetime] = {}

    def upgrade_appliers(self) -> dict[type, Callable[[Any], None]]:
        """Return what makes each change."""
        return {
            PutAssignment: self._put_assignment,
            AssignmentSent: self._assignment_sent,
            AssignmentWanted: self._assignment_wanted,
            TookAssignment: self._took_assignment,
            PutUpgrade: self._put_upgrade,
        }

    def assignment(self, device_id: DeviceId, version: int) -> Assignment | None:
        """Return one assignment of a device, whether it counts or not."""
        return self._assigned(select(_all).where(_all.c.device_id == device_id, _all.c.version == version))

    def counting(self, device_id: DeviceId) -> Assignment | None:
        """Return the assignment of a device that counts."""
        return self._assigned(select(_all).where(_all.c.device_id == device_id, _all.c.counts.is_(True)))

    def upgrade(self, device_id: DeviceId, name: str) -> Upgrade | None:
        """Return how far one piece of software got."""
        row = self._first(select(_upgrades).where(_upgrades.c.device_id == device_id, _upgrades.c.name == name))
        return None if row is None else to_upgrade(row)

    def taken_version(self, device_id: DeviceId) -> int:
        """Return the highest assignment that a device spoke of, 0 for none."""
        row = self._first(select(_taken.c.version).where(_taken.c.device_id == device_id))
        return 0 if row is None else int(row.version)

    def made_version(self, device_id: DeviceId, most: int) -> int:
        """Return the highest version made for a device that is not above ``most``, 0 for none."""
        highest = func.max(_all.c.version)
        found = self._connection.execute(select(highest).where(_all.c.device_id == device_id, _all.c.version <= most))
        return int(found.scalar() or 0)

    def flush_upgrades(self) -> None:
        """Write what was gathered."""
        if self._came:
            came = [{"who": device_id, "at": rows.stamp(at)} for device_id, at in self._came.items()]
            self._connection.execute(_AGAIN, came)

    def _assigned(self, statement: Select[Any]) -> Assignment | None:
        row = self._first(statement)
        if row is None:
            return None
        own = select(_releases).where(_releases.c.device_id == row.device_id, _releases.c.version == row.version)
        return to_assignment(row, map(to_wanted, self._all(own.order_by(_releases.c.name))))

    def _put_assignment(self, change: PutAssignment) -> None:
        made = change.assignment
        own = update(_all).where(_all.c.device_id == made.device_id, _all.c.counts.is_(True))
        self._connection.execute(own.values(counts=False, send_at=None))
        self._connection.execute(insert(_all), from_assignment(made, change.send_at))
        each = [from_wanted(made, one) for one in made.wanted]
        if each:
            self._connection.execute(insert(_releases), each)
        caught_up = update(_taken).where(_taken.c.device_id == made.device_id, _taken.c.version < made.version)
        self._connection.execute(caught_up.values(behind_since=None))

    def _assignment_sent(self, change: AssignmentSent) -> None:
        own = update(_all).where(_all.c.device_id == change.device_id, _all.c.version == change.version)
        values: Values = {"send_at": rows.maybe_stamp(change.again_at)}
        if change.at is not None:
            values["told_at"] = rows.stamp(change.at)
        self._connection.execute(own.values(values))

    def _assignment_wanted(self, change: AssignmentWanted) -> None:
        self._came[change.device_id] = change.at

    def _took_assignment(self, change: TookAssignment) -> None:
        own = update(_all).where(_all.c.device_id == change.device_id, _all.c.version == change.version)
        self._connection.execute(own.values(seen=True, send_at=None))
        statement = sqlite.insert(_taken)
        latest = func.max(_taken.c.version, statement.excluded.version)
        since = func.coalesce(_taken.c.behind_since, statement.excluded.behind_since)
        kept = statement.on_conflict_do_update(
            index_elements=["device_id"], set_={"version": latest, "behind_since": since}
        )
        behind = rows.stamp(change.at) if change.behind else None
        self._connection.execute(
            kept, {"device_id": change.device_id, "version": change.version, "behind_since": behind}
        )

    def _put_upgrade(self, change: PutUpgrade) -> None:
        self._connection.execute(upsert(_upgrades), from_upgrade(change.upgrade))


class UpgradeQueries(Ground):
    """What the worker and operators ask about upgrades."""

    def assignments_due(self, now: datetime, limit: int = 100) -> tuple[DeviceId, ...]:
        """Return devices whose assignment is to be sent now."""
        due = select(_all.c.device_id).where(_all.c.send_at <= rows.stamp(now), _all.c.counts.is_(True))
        return tuple(DeviceId(row.device_id) for row in self._all(due.order_by(_all.c.send_at).limit(limit)))

    def devices_ahead(self, before: datetime, quiet: datetime, limit: int = 100) -> tuple[Ahead, ...]:
        """Return devices that since before then speak of an assignment newer than the one that counts here.

        quiet: not those whose assignment was made after it.
        """
        lately = select(_all.c.version).where(
            _all.c.device_id == _taken.c.device_id, _all.c.counts.is_(True), _all.c.created_at > rows.stamp(quiet)
        )
        found = select(_taken).where(_taken.c.behind_since <= rows.stamp(before), ~lately.exists())
        some = self._all(found.order_by(_taken.c.behind_since).limit(limit))
        return tuple(Ahead(DeviceId(row.device_id), row.version, rows.moment(row.behind_since)) for row in some)

    def upgrades_of(self, devices: Sequence[DeviceId]) -> tuple[Upgrade, ...]:
        """Return how far each piece of software got on each of these devices, by device and name."""
        found: list[Upgrade] = []
        for some in slices(list(devices)):
            wanted = select(_upgrades).where(_upgrades.c.device_id.in_(some))
            found += map(to_upgrade, self._all(wanted.order_by(_upgrades.c.device_id, _upgrades.c.name)))
        return tuple(found)

    def assignments_of(self, devices: Sequence[DeviceId]) -> Mapping[DeviceId, Assignment]:
        """Return the assignment that counts of each of these devices that has one."""
        found: dict[DeviceId, Assignment] = {}
        for some in slices(list(devices)):
            counting = select(_all).where(_all.c.device_id.in_(some), _all.c.counts.is_(True))
            each = select(_releases).join(_all).where(_all.c.device_id.in_(some), _all.c.counts.is_(True))
            wanted: dict[str, list[Wanted]] = {}
            for row in self._all(each.order_by(_releases.c.device_id, _releases.c.name)):
                wanted.setdefault(row.device_id, []).append(to_wanted(row))
            for row in self._all(counting):
                found[DeviceId(row.device_id)] = to_assignment(row, wanted.get(row.device_id, ()))
        return found

    def upgrade_counts(self) -> dict[tuple[str, Phase], int]:
        """Return on how many devices each piece of software is in each phase, by its name and the phase."""
        counted = select(_upgrades.c.name, _upgrades.c.phase, func.count().label("times"))
        found = self._all(counted.group_by(_upgrades.c.name, _upgrades.c.phase))
        return {(row.name, Phase(row.phase)): row.times for row in found}

    def forget_assignments(self, before: datetime, limit: int = 1000) -> int:
        """Delete assignments made before ``before`` that count no more; return how many went."""
        old = select(_all.c.device_id, _all.c.version).where(
            _all.c.created_at < rows.stamp(before), _all.c.counts.is_(False)
        )
        gone = [(row.device_id, row.version) for row in self._all(old.order_by(_all.c.created_at).limit(limit))]
        with self._writing() as connection:
            for device_id, version in gone:
                own = delete(_all).where(_all.c.device_id == device_id, _all.c.version == version)
                connection.execute(own.where(_all.c.counts.is_(False)))
        return len(gone)
