"""What the worker asks between messages: commands to send and to give up, devices to wake, rows to forget.

Each takes a limit: a duty is done in small pieces, so that it never keeps a batch of messages waiting.
Source: protocol section 5 "Commands", "First contact"; C10 (nothing is kept for longer than it is needed).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Delete, Table, and_, delete, or_, select, tuple_, update

from fleetward_schemas.commands import KEY_VERBS, OPEN, Step, Verb
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.topics import DeviceId
from fleetward_server.changes import Cut
from fleetward_server.state import CertificateState, Command, Device, Presence, Use
from fleetward_server.store import rows, tables
from fleetward_server.store.ground import Ground
from fleetward_server.store.lookups import ALL_DEVICES

RESEND_AFTER = timedelta(seconds=30)
_APPROVABLE = (State.APPROVED, State.REGISTERED)
_HELD = (Reason.NOT_LISTED, Reason.AWAITING_APPROVAL)
_commands, _devices = tables.commands, tables.devices


def _other_key_command() -> ColumnElement[bool]:
    """Say whether the device has another key command under way."""
    other = _commands.alias("other")
    return (
        select(other.c.id)
        .where(
            other.c.device_id == _commands.c.device_id,
            other.c.id != _commands.c.id,
            other.c.verb.in_(KEY_VERBS),
            other.c.step.in_((Step.SENT, Step.ACCEPTED)),
        )
        .exists()
    )


class Duties(Ground):
    """Reads and clean-ups for the worker."""

    def queued_commands(self, now: datetime, limit: int = 100) -> tuple[Command, ...]:
        """Return open, unexpired commands to send: never sent, or unanswered for 30 s by a device that is online.

        Only to devices that ever came online: before that there is no digital ID to echo. A device does one key command
        at a time, so the next one waits for the end of the one before.
        """
        unanswered = and_(
            _commands.c.step.in_((Step.SENT, Step.ACCEPTED)),
            _devices.c.presence == Presence.ONLINE,
            _commands.c.sent_at <= rows.stamp(now - RESEND_AFTER),
        )
        statement = (
            select(_commands)
            .join(_devices)
            .where(
                _commands.c.step.in_(OPEN),
                _commands.c.expires_at > rows.stamp(now),
                _devices.c.state == State.REGISTERED,
                _devices.c.digital_id.is_not(None),
                or_(_commands.c.step == Step.QUEUED, unanswered),
                or_(_commands.c.verb.not_in(KEY_VERBS), ~_other_key_command()),
            )
        )
        return tuple(map(rows.to_command, self._all(statement.order_by(_commands.c.id).limit(limit))))

    def overdue_commands(self, now: datetime, limit: int = 100) -> tuple[Command, ...]:
        """Return open commands whose time has passed."""
        overdue = select(_commands).where(_commands.c.step.in_(OPEN), _commands.c.expires_at <= rows.stamp(now))
        return tuple(map(rows.to_command, self._all(overdue.order_by(_commands.c.id).limit(limit))))

    def retiring(self, now: datetime, limit: int = 100) -> tuple[Device, ...]:
        """Return devices that said their last word long enough ago to be put out."""
        due = ALL_DEVICES.where(_devices.c.retire_at <= rows.stamp(now))
        return tuple(map(rows.to_device, self._all(due.order_by(_devices.c.retire_at).limit(limit))))

    def rotatable(self, before: datetime) -> tuple[tuple[DeviceId, datetime], ...]:
        """Return registered devices whose certificate began before then, with when, and that no rotation waits for."""
        held = tables.certificates
        waits = select(_commands.c.id).where(
            _commands.c.device_id == _devices.c.id, _commands.c.verb == Verb.ROTATE_KEY, _commands.c.step.in_(OPEN)
        )
        statement = (
            select(held.c.device_id, held.c.not_before)
            .join(_devices, _devices.c.id == held.c.device_id)
            .where(
                held.c.state == CertificateState.CURRENT,
                held.c.use == Use.DEVICE,
                held.c.not_before <= rows.stamp(before),
                _devices.c.state == State.REGISTERED,
                ~waits.exists(),
            )
        )
        found = self._all(statement.order_by(held.c.not_before))
        return tuple((DeviceId(row.device_id), rows.moment(row.not_before)) for row in found)

    def cuts(self, limit: int = 1000) -> tuple[Cut, ...]:
        """Return what the broker is still to be told, oldest first."""
        found = self._all(select(tables.cuts).order_by(tables.cuts.c.since).limit(limit))
        return tuple(Cut(DeviceId(row.device_id), row.kick, rows.moment(row.since)) for row in found)

    def forget_cuts(self, told: Sequence[Cut]) -> None:
        """Forget what the broker was told; what was added meanwhile stays."""
        if not told:
            return
        key = tuple_(tables.cuts.c.device_id, tables.cuts.c.since)
        self._deleted(delete(tables.cuts).where(key.in_([(one.device_id, rows.stamp(one.since)) for one in told])))

    def approved_waiting(self, limit: int = 1000) -> tuple[Device, ...]:
        """Return devices that asked, were held, and are approved by now: they are told at once to ask again.

        A device leaves this list when it asks again. Approved: that very key, or for a first enrolment the list.
        """
        statement = ALL_DEVICES.where(
            _devices.c.asking_key.is_not(None),
            _devices.c.hello_digital_id.is_not(None),
            _devices.c.reason.in_(_HELD),
            _devices.c.state.in_(_APPROVABLE),
            or_(
                _devices.c.approved_key == _devices.c.asking_key,
                and_(_devices.c.state == State.APPROVED, _devices.c.approved_key.is_(None)),
            ),
        )
        return tuple(map(rows.to_device, self._all(statement.order_by(_devices.c.id).limit(limit))))

    def silent_devices(self, before: datetime, limit: int = 1000) -> tuple[Device, ...]:
        """Return devices that are said to be online and were not heard since ``before``."""
        silent = ALL_DEVICES.where(
            _devices.c.presence == Presence.ONLINE,
            or_(tables.sightings.c.seen_at.is_(None), tables.sightings.c.seen_at < rows.stamp(before)),
        )
        return tuple(map(rows.to_device, self._all(silent.order_by(_devices.c.id).limit(limit))))

    def forget_windows(self, now: datetime, limit: int = 1000) -> int:
        """Delete windows of ended certificates; return how many went."""
        return self._delete_some(tables.windows, now, limit)

    def forget_challenges(self, now: datetime, limit: int = 1000) -> int:
        """Delete challenges nobody can use any more; return how many went."""
        return self._delete_some(tables.challenges, now, limit)

    def prove(self) -> None:
        """Write and commit next to nothing: what fails here would fail a batch.

        Raises:
            StoreProblem: the file or its disk takes nothing now.
        """
        with self._writing() as connection:
            connection.execute(update(tables.meta).values(value=tables.meta.c.value))

    def prune_reports(self, before: datetime, kind: str, limit: int = 1000) -> int:
        """Delete the oldest reports of one kind received before ``before``; return how many went."""
        table = tables.reports
        oldest = select(table.c.number).where(table.c.kind == kind, table.c.received_at < rows.stamp(before))
        some = oldest.order_by(table.c.received_at).limit(limit)
        return self._deleted(delete(table).where(table.c.number.in_(some)))

    def _delete_some(self, table: Table, now: datetime, limit: int) -> int:
        key = list(table.primary_key)
        some = select(*key).where(table.c.expires_at < rows.stamp(now)).limit(limit)
        return self._deleted(delete(table).where(tuple_(*key).in_(some)))

    def _deleted(self, statement: Delete) -> int:
        with self._writing() as connection:
            result: CursorResult[Any] = connection.execute(statement)
            return result.rowcount
