"""MOSIP's tasks and certificates as rows: what is due, whom the register and MOSIP do not agree about, counts.

A look is as cheap as its answer: each is served by an index, and whoever is offline is not looked at.
Source: mosip/queue.py; S2, E1.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true

from fleetward_schemas.commands import FINAL, Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Environment
from fleetward_schemas.topics import DeviceId
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.queue import GONE, OPEN, PRESENT, Act, Task, TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.state import Presence
from fleetward_server.store import mosip_tables, rows, tables
from fleetward_server.store.ground import Ground
from fleetward_server.store.rows import AnyRow, Values

PAGE_ROWS = 500
_tasks, _devices, _commands = mosip_tables.mosip_tasks, tables.devices, tables.commands
_ANSWERED = (*FINAL, Step.EXPIRED)


@dataclass(frozen=True, slots=True)
class Unlike:
    """A device of which the register says something else than MOSIP was told last."""

    device_id: DeviceId
    state: State
    last: Task | None


class MosipRows(Ground):
    """Reads for the connector and its operators."""

    def mosip_due(self, profile: Profile, now: datetime) -> Task | None:
        """Return the task that has been due longest.

        A registration waits for its device to be there, since MOSIP wants fresh device info; and one whose device was
        asked for that is due again when the device has answered.
        """
        there = or_(_tasks.c.act != Act.REGISTER, _devices.c.presence == Presence.ONLINE)
        if profile is Profile.CRYPTO_ONLY:
            there = true()
        answered = and_(_tasks.c.state == TaskState.ASKING, _commands.c.step.in_(_ANSWERED))
        statement = (
            select(_tasks)
            .join(_devices, _devices.c.id == _tasks.c.device_id)
            .outerjoin(_commands, _commands.c.id == _tasks.c.asked)
            .where(
                _tasks.c.state.in_(OPEN),
                _tasks.c.profile == profile,
                or_(and_(_tasks.c.next_at <= rows.stamp(now), there), answered),
            )
        )
        row = self._first(statement.order_by(_tasks.c.next_at, _tasks.c.number).limit(1))
        return None if row is None else to_task(row)

    def mosip_unlike(self, profile: Profile, limit: int = PAGE_ROWS, *, whole: bool = True) -> tuple[Unlike, ...]:
        """Return devices for which a task may be lacking; ``queue.due`` says which.

        whole: look at every registered device. Otherwise at those that have no code yet, which an index knows; one that
        has its code from another profile is seen by the whole look alone.
        """
        found = (self._all(statement.limit(limit)) for statement in self.mosip_looks(profile, whole=whole))
        return tuple(_unlike_row(row) for some in found for row in some)

    def mosip_looks(self, profile: Profile, *, whole: bool) -> tuple[Select[Any], Select[Any]]:
        """Return the two statements of such a look: for those in use, and for those that are gone."""
        task = _tasks.alias()
        present = _present(task) if whole else and_(_devices.c.device_code.is_(None), _present(task))
        return _lasting(profile, task).where(present), _lasting(profile, task).where(_gone(profile, task))

    def mosip_asking(self, profile: Profile) -> int:
        """Return how many devices were asked for device info and have not answered."""
        found = select(func.count()).where(_tasks.c.state == TaskState.ASKING, _tasks.c.profile == profile)
        row = self._first(found)
        return 0 if row is None else int(row[0])

    def mosip_task(self, number: int) -> Task | None:
        """Return one task."""
        row = self._first(select(_tasks).where(_tasks.c.number == number))
        return None if row is None else to_task(row)

    def mosip_tasks(
        self, state: TaskState | None = None, device_id: DeviceId | None = None, limit: int = PAGE_ROWS
    ) -> tuple[Task, ...]:
        """Return tasks, the latest first; without a state, those that are open or dead."""
        states = (*OPEN, TaskState.DEAD) if state is None and device_id is None else (state or "",)
        statement = select(_tasks)
        if state is not None or device_id is None:
            statement = statement.where(_tasks.c.state.in_(states))
        if device_id is not None:
            statement = statement.where(_tasks.c.device_id == device_id)
        return tuple(map(to_task, self._all(statement.order_by(_tasks.c.number.desc()).limit(limit))))

    def mosip_counts(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return (profile, act, state, how many)."""
        words = (_tasks.c.profile, _tasks.c.act, _tasks.c.state)
        found = self._all(select(*words, func.count().label("times")).group_by(*words).order_by(*words))
        return tuple((row.profile, row.act, row.state, int(row.times)) for row in found)

    def online_devices(self, after: str, limit: int) -> tuple[tuple[DeviceId, str], ...]:
        """Return (id, digital ID) of registered devices that are there, by id, those after ``after``."""
        there = (_devices.c.presence == Presence.ONLINE, _devices.c.state == State.REGISTERED)
        statement = select(_devices.c.id, _devices.c.digital_id).where(
            _devices.c.id > after, _devices.c.digital_id.is_not(None), *there
        )
        return tuple(
            (DeviceId(row.id), row.digital_id) for row in self._all(statement.order_by(_devices.c.id).limit(limit))
        )

    def encryption_certificate(self, env: Environment, domain_uri: str) -> EncryptionCertificate | None:
        """Return what is kept for one environment and domain."""
        table = mosip_tables.encryption_certificates
        row = self._first(select(table).where(table.c.env == env, table.c.domain_uri == domain_uri))
        return None if row is None else _to_encryption(row)

    def encryption_certificates(self) -> tuple[EncryptionCertificate, ...]:
        """Return all that are kept."""
        table = mosip_tables.encryption_certificates
        return tuple(map(_to_encryption, self._all(select(table).order_by(table.c.env, table.c.domain_uri))))


def _to_encryption(row: AnyRow) -> EncryptionCertificate:
    return EncryptionCertificate(
        env=Environment(row.env),
        domain_uri=row.domain_uri,
        next_at=rows.moment(row.next_at),
        source=row.source,
        der=row.der,
        not_after=rows.maybe_moment(row.not_after),
        fetched_at=rows.maybe_moment(row.fetched_at),
        failures=row.failures,
        code=row.code,
        detail=row.detail,
    )


def from_encryption(kept: EncryptionCertificate) -> Values:
    """Return a row."""
    return {
        "env": kept.env,
        "domain_uri": kept.domain_uri,
        "next_at": rows.stamp(kept.next_at),
        "source": kept.source,
        "der": kept.der,
        "not_after": rows.maybe_stamp(kept.not_after),
        "fetched_at": rows.maybe_stamp(kept.fetched_at),
        "failures": kept.failures,
        "code": kept.code,
        "detail": kept.detail,
    }


def _lasting(profile: Profile, task: Any) -> Select[Any]:
    """Devices, each with the last task of the profile."""
    last = select(func.max(_tasks.c.number)).where(_tasks.c.device_id == _devices.c.id, _tasks.c.profile == profile)
    joined = _devices.outerjoin(task, task.c.number == last.scalar_subquery())
    statement = select(_devices.c.id, _devices.c.state.label("device_state"), task).select_from(joined)
    return statement.order_by(_devices.c.id)


def _present(task: Any) -> ColumnElement[bool]:
    never, told_gone = task.c.number.is_(None), and_(task.c.act.not_in(PRESENT), task.c.state.not_in(OPEN))
    return and_(_devices.c.state == State.REGISTERED, or_(never, told_gone))


def _gone(profile: Profile, task: Any) -> ColumnElement[bool]:
    never, still = task.c.number.is_(None), task.c.state.not_in((TaskState.DEAD, TaskState.DROPPED))
    in_1_1 = and_(task.c.act == Act.REGISTER, still)
    wanted = or_(never, task.c.act != Act.HOTLIST) if profile is Profile.CRYPTO_ONLY else in_1_1
    return and_(_devices.c.state.in_(GONE), wanted)


def _unlike_row(row: AnyRow) -> Unlike:
    return Unlike(DeviceId(row.id), State(row.device_state), None if row.number is None else to_task(row))


def to_task(row: AnyRow) -> Task:
    """Read a row."""
    return Task(
        number=row.number,
        device_id=DeviceId(row.device_id),
        profile=Profile(row.profile),
        act=Act(row.act),
        state=TaskState(row.state),
        next_at=rows.moment(row.next_at),
        created_at=rows.moment(row.created_at),
        changed_at=rows.moment(row.changed_at),
        attempts=row.attempts,
        refusals=row.refusals,
        asked=row.asked,
        code=row.code,
        detail=row.detail,
        device_code=row.device_code,
    )


def from_task(task: Task) -> Values:
    """Return a row; without its number when it has none yet."""
    numbered = {"number": task.number} if task.number else {}
    return numbered | {
        "device_id": task.device_id,
        "profile": task.profile,
        "act": task.act,
        "state": task.state,
        "next_at": rows.stamp(task.next_at),
        "created_at": rows.stamp(task.created_at),
        "changed_at": rows.stamp(task.changed_at),
        "attempts": task.attempts,
        "refusals": task.refusals,
        "asked": task.asked,
        "code": task.code,
        "detail": task.detail,
        "device_code": task.device_code,
    }
