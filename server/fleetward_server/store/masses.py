"""Rows of acts on many devices: written in the transaction that does a device's part, so that none is done twice.

Source: mass_state.py.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, delete, func, insert, select, tuple_, update

from fleetward_schemas.topics import DeviceId
from fleetward_server.mass_state import Action, MassAct, Outcome, Tally, Target
from fleetward_server.store import rows, tables
from fleetward_server.store.ground import Ground
from fleetward_server.store.lookups import Lookups
from fleetward_server.store.rows import AnyRow

_acts, _targets = tables.mass_acts, tables.mass_targets


class MassUnit(Lookups):
    """The part of a transaction that is about acts on many."""

    def begin_mass(self, act: MassAct, devices: Iterable[DeviceId]) -> None:
        """Keep an act and whom it means."""
        self._connection.execute(insert(_acts), _from_act(act))
        each = [{"act_id": act.id, "device_id": device_id, "detail": ""} for device_id in devices]
        if each:
            self._connection.execute(insert(_targets), each)

    def waiting_targets(self, act_id: str, after: str, limit: int) -> tuple[DeviceId, ...]:
        """Return devices whose part is not done, by id, those after ``after``."""
        own = select(_targets.c.device_id).where(_targets.c.act_id == act_id, _targets.c.device_id > after)
        waiting = own.where(_targets.c.outcome.is_(None))
        found = self._all(waiting.order_by(_targets.c.device_id).limit(limit))
        return tuple(DeviceId(row.device_id) for row in found)

    def settle_target(self, act_id: str, target: Target) -> None:
        """Say what became of one device's part."""
        own = update(_targets).where(_targets.c.act_id == act_id, _targets.c.device_id == target.device_id)
        self._connection.execute(own.values(outcome=target.outcome, detail=target.detail))

    def finish_mass(self, act_id: str, now: datetime) -> bool:
        """Say that nothing of an act is left to do; False if somebody said so before."""
        own = update(_acts).where(_acts.c.id == act_id, _acts.c.finished_at.is_(None))
        result: CursorResult[Any] = self._connection.execute(own.values(finished_at=rows.stamp(now)))
        return result.rowcount == 1


class MassQueries(Ground):
    """What operators ask about acts on many."""

    def mass_act(self, act_id: str) -> MassAct | None:
        """Return one act."""
        row = self._first(select(_acts).where(_acts.c.id == act_id))
        return None if row is None else _to_act(row)

    def mass_acts(self, limit: int) -> tuple[MassAct, ...]:
        """Return the latest acts, oldest first."""
        found = self._all(select(_acts).order_by(_acts.c.id.desc()).limit(limit))
        return tuple(reversed(list(map(_to_act, found))))

    def mass_tally(self, act_id: str) -> Tally:
        """Return an act in numbers."""
        counted = select(_targets.c.outcome, func.count().label("times")).where(_targets.c.act_id == act_id)
        tally = Tally()
        for row in self._all(counted.group_by(_targets.c.outcome)):
            tally = replace(tally, **{row.outcome or "left": row.times})
        return tally

    def forget_mass_targets(self, before: datetime, limit: int = 1000) -> int:
        """Delete what became of single devices in acts that finished before ``before``; return how many rows went."""
        old = select(_acts.c.id).where(_acts.c.finished_at < rows.stamp(before))
        some = select(*_targets.primary_key).where(_targets.c.act_id.in_(old)).limit(limit)
        with self._writing() as connection:
            result: CursorResult[Any] = connection.execute(
                delete(_targets).where(tuple_(*_targets.primary_key).in_(some))
            )
        return result.rowcount

    def mass_targets(self, act_id: str, outcomes: Iterable[Outcome] = Outcome) -> tuple[Target, ...]:
        """Return the devices of an act with one of these outcomes, by id."""
        wanted = select(_targets).where(_targets.c.act_id == act_id, _targets.c.outcome.in_(list(outcomes)))
        found = self._all(wanted.order_by(_targets.c.device_id))
        return tuple(Target(DeviceId(row.device_id), Outcome(row.outcome), row.detail) for row in found)


def _from_act(act: MassAct) -> rows.Values:
    return {
        "id": act.id,
        "action": act.action,
        "params": act.params,
        "filter": act.filter,
        "actor": act.actor,
        "reason": act.reason,
        "created_at": rows.stamp(act.created_at),
        "finished_at": rows.maybe_stamp(act.finished_at),
    }


def _to_act(row: AnyRow) -> MassAct:
    return MassAct(
        id=row.id,
        action=Action(row.action),
        params=row.params,
        filter=row.filter,
        actor=row.actor,
        reason=row.reason,
        created_at=rows.moment(row.created_at),
        finished_at=rows.maybe_moment(row.finished_at),
    )
