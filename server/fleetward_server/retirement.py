"""Retirement at the server: a device that said its last word is put out a minute later, one that said none at the end.

Putting out is one commit (record, certificates, audit, and what the broker is to be told), so that a crash anywhere
leaves it to be done or done. Source: C3, S6; protocol section 5 "Retirement".
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from fleetward_schemas.commands import ResultState, Verb
from fleetward_schemas.enrol import Event, Reason, advance, may_advance
from fleetward_schemas.retirement import GRACE
from fleetward_server.changes import AddAudit, Change, Cut, PutDevice, RevokeCertificates
from fleetward_server.state import AuditEntry, Command, Device, Presence
from fleetward_server.turn import Said, Turn


def on_result(said: Said, device: Device | None, command: Command, result: ResultState) -> Iterator[Change]:
    """Plan the end of a device that says it has retired: its keys are to be gone by then."""
    last = command.verb == Verb.RETIRE and result is ResultState.SUCCEEDED
    if last and device is not None and device.retire_at is None and may_advance(device.state, Event.RETIRE):
        yield PutDevice(replace(device, retire_at=said.arrived_at + GRACE, seen_at=said.arrived_at))


def put_out(device: Device, now: datetime, *, acknowledged: bool) -> Turn:
    """Retire a device: its certificates cease to count and its line is to be cut."""
    if not may_advance(device.state, Event.RETIRE):
        return Turn((PutDevice(replace(device, retire_at=None)),)) if device.retire_at is not None else Turn()
    online = device.presence is Presence.ONLINE
    after = replace(
        device,
        state=advance(device.state, Event.RETIRE),
        reason=Reason.RETIRED,
        retire_at=None,
        asking_key=None,
        approved_key=None,
        presence=Presence.OFFLINE if online else device.presence,
        presence_at=now if online else device.presence_at,
        changed_at=now,
    )
    action = "retired" if acknowledged else "retired-unacknowledged"
    entry = AuditEntry(now, "server", action, device.id)
    return Turn(
        (PutDevice(after), RevokeCertificates(device.id), Cut(device.id, kick=True, since=now), AddAudit(entry))
    )
