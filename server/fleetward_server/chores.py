"""What the worker does between messages: orders to send and to give up, devices to wake, to rotate and to put out.

Each is done in small pieces, and what was read before a transaction is read again in it: a result or an operator may
have been quicker. Source: protocol section 5 "Commands", "First contact", "Rotation", "Retirement".
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from fleetward_schemas.commands import Event, Step, Verb, may_advance
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.messages import WEEK_S
from fleetward_schemas.moment import to_ms
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import AHEAD_MS
from fleetward_server import commands, enrol, retirement, rotation, upgrade
from fleetward_server.changes import AddAudit, PutCommand, PutDevice
from fleetward_server.encryption import told
from fleetward_server.outgoing import Outgoing
from fleetward_server.settings import RotationTable
from fleetward_server.state import AuditEntry, Command, Device, Presence
from fleetward_server.store import Ahead, Store, Unit
from fleetward_server.turn import Policy, Reply, Turn

COMMANDS_A_TURN = 200
SILENT_A_TURN = 500
HANDED_A_TURN = 200
ROTATIONS_A_TURN = 50
SILENT_PERIODS = 3
LEAST_SILENCE_S = 90
AHEAD_FOR = timedelta(seconds=10)
PLAN = "planned rotation"


class Chores:
    """The duties of one worker."""

    def __init__(self, store: Store) -> None:
        """Work on ``store``."""
        self._store = store
        self._last_id: str | None = None
        self._handed: str | None = None

    def send(self, policy: Policy, now: datetime, *, assigns: bool = True) -> Outgoing:
        """Send what waits: commands for devices that are there, word to the approved, the end of what expired.

        assigns: assignments too. Who reads the release repository before the broker was told anew finds no target.
        """
        out = Outgoing()
        due = self._store.queued_commands(now, COMMANDS_A_TURN)
        overdue = self._store.overdue_commands(now, COMMANDS_A_TURN)
        waiting, leaving = self._store.approved_waiting(), self._store.retiring(now, COMMANDS_A_TURN)
        assigned = self._store.assignments_due(now, COMMANDS_A_TURN) if assigns else ()
        ahead = self._store.devices_ahead(now - AHEAD_FOR, now - upgrade.AGAIN, COMMANDS_A_TURN)
        if not (due or overdue or waiting or leaving or assigned or ahead):
            return out
        with self._store.unit() as rows:
            turns = (_overdue(overdue, rows, now), _leaving(leaving, rows, now))
            told = (*_orders(due, rows, now), *_words(waiting, rows, policy), *_assigned(assigned, rows, now))
            for turn in (*turns[0], *turns[1], *told, *_said_again(ahead, rows, now)):
                rows.apply(turn.changes)
                out.replies.extend(turn.replies)
        return out

    def hand_out(self) -> None:
        """Begin to tell every device that is there what biometrics are encrypted for."""
        self._handed = ""

    def handed(self, policy: Policy) -> tuple[Reply, ...]:
        """Return the next words of it; a device that is away is told when it comes."""
        if self._handed is None:
            return ()
        found = self._store.online_devices(self._handed, HANDED_A_TURN)
        self._handed = found[-1][0] if len(found) == HANDED_A_TURN else None
        return tuple(reply for device_id, digital_id in found for reply in told(device_id, digital_id, policy))

    def miss(self, policy: Policy, now: datetime) -> None:
        """Take devices offline that were not heard for long: a broker that died takes their wills with it."""
        before = now - timedelta(seconds=max(LEAST_SILENCE_S, SILENT_PERIODS * policy.telemetry_s))
        silent = self._store.silent_devices(before, SILENT_A_TURN)
        if not silent:
            return
        with self._store.unit() as rows:
            for device in silent:
                rows.apply((PutDevice(replace(device, presence=Presence.OFFLINE, presence_at=now)),))

    def plan_rotations(self, plan: RotationTable, now: datetime) -> int:
        """Order new keys where the plan says so; return how many. A device never starts a rotation itself."""
        if not plan.after_days:
            return 0
        found = self._store.rotatable(now - timedelta(days=plan.after_days))
        chosen = rotation.due(found, plan, now)[:ROTATIONS_A_TURN]
        if chosen:
            with self._store.unit() as rows:
                for device_id in chosen:
                    command = self._rotate(device_id, now)
                    entry = AuditEntry(now, "server", f"command-{command.verb}", device_id, PLAN, command.id)
                    rows.apply((PutCommand(command), AddAudit(entry)))
        return len(chosen)

    def _rotate(self, device_id: DeviceId, now: datetime) -> Command:
        self._last_id = next_id(now, self._last_id, secrets.token_bytes(RANDOM_BYTES))
        ends = now + timedelta(seconds=WEEK_S)
        return Command(self._last_id, device_id, Verb.ROTATE_KEY, "{}", Step.QUEUED, "server", PLAN, now, ends)


def _overdue(overdue: Iterable[Command], rows: Unit, now: datetime) -> Iterator[Turn]:
    for old in overdue:
        command = rows.command(old.id)
        if command is None or not may_advance(command.step, Event.EXPIRED):
            continue
        yield commands.expire(command, now)
        device = rows.device(old.device_id)
        if command.verb == Verb.RETIRE and device is not None:
            yield retirement.put_out(device, now, acknowledged=False)


def _leaving(leaving: Iterable[Device], rows: Unit, now: datetime) -> Iterator[Turn]:
    for old in leaving:
        device = rows.device(old.id)
        if device is not None and device.retire_at is not None and device.retire_at <= now:
            yield retirement.put_out(device, now, acknowledged=True)


def _orders(due: Iterable[Command], rows: Unit, now: datetime) -> Iterator[Turn]:
    for old in due:
        command, device = rows.command(old.id), rows.device(old.device_id)
        if command is not None and device is not None and may_advance(command.step, Event.SEND):
            yield commands.send(command, device, now)


def _assigned(due: Iterable[DeviceId], rows: Unit, now: datetime) -> Iterator[Turn]:
    for device_id in due:
        assignment, device = rows.counting(device_id), rows.device(device_id)
        if assignment is not None and device is not None:
            yield upgrade.send(assignment, device, now)


def _said_again(ahead: Iterable[Ahead], rows: Unit, now: datetime) -> Iterator[Turn]:
    """Say what counts here to devices that hold something newer, as after a restore."""
    for one in ahead:
        device, counts = rows.device(one.device_id), rows.counting(one.device_id)
        if device is None:
            continue
        made = rows.made_version(one.device_id, to_ms(now) + AHEAD_MS)
        version = upgrade.next_version(now, rows.taken_version(one.device_id), made)
        yield upgrade.said_again(device, counts, version, now)


def _words(waiting: Iterable[Device], rows: Unit, policy: Policy) -> Iterator[Turn]:
    """Tell the approved to ask again. asking_key is cleared: a lost word costs a retry, not the approval."""
    for old in waiting:
        device = rows.device(old.id)
        if device is not None and device.state is old.state and device.asking_key is not None:
            reply = enrol.approved_reply(device, policy)
            yield Turn((PutDevice(replace(device, asking_key=None)),), () if reply is None else (reply,))
