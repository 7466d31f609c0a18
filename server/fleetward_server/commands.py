"""Commands at the server: sent while the device is there, again until a signed result, expired only provisionally.

Source: S4; protocol section 5 "Commands".
"""

import json
from dataclasses import replace
from datetime import datetime

from fleetward_schemas import commands
from fleetward_schemas.commands import Event, Result
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.topics import down
from fleetward_server import retirement
from fleetward_server.changes import AddAudit, Change, PutCommand, Seen
from fleetward_server.state import AuditEntry, Command, Device
from fleetward_server.telemetry import stored
from fleetward_server.turn import Known, Policy, Reply, Said, Turn

MOST_OPEN = 100
"""Open orders of one device: more than this is somebody's loop, or a device that nobody misses."""


def on_result(said: Said, known: Known, _: Policy) -> Turn:
    """Take what a device says of a command; a word after the final one changes nothing, and is stored all the same."""
    if not isinstance(said.body, Result):
        raise LocalMistake("on_result was given another kind")
    changes: list[Change] = [stored(said), Seen(said.device_id, said.arrived_at)]
    command, event = known.command, Event(said.body.state.value)
    if command is not None and command.device_id == said.device_id and commands.may_advance(command.step, event):
        step = commands.advance(command.step, event)
        changes.append(
            PutCommand(replace(command, step=step, changed_at=said.arrived_at, last_reason=said.body.reason))
        )
        if step in commands.FINAL:
            actor = f"device:{said.device_id}"
            entry = AuditEntry(
                said.arrived_at, actor, f"command-{step}", said.device_id, said.body.reason or "", command.id
            )
            changes.append(AddAudit(entry))
        changes.extend(retirement.on_result(said, known.device, command, said.body.state))
    return Turn(changes=tuple(changes), acks=(said.id,))


def send(command: Command, device: Device, now: datetime) -> Turn:
    """Send a command, or send it again: the same id, so a device does it at most once."""
    if device.digital_id is None:
        return Turn()
    sent = replace(command, step=commands.advance(command.step, Event.SEND), sent_at=now)
    body = commands.Command(commandId=command.id, command=command.verb, params=json.loads(command.params))
    reply = Reply(
        down(command.device_id, "command"),
        body,
        device.digital_id,
        expires=command.expires_at,
        message_id=command.id,
    )
    return Turn(changes=(PutCommand(sent),), replies=(reply,))


def expire(command: Command, now: datetime) -> Turn:
    """Mark a command nobody answered in time; a signed result still replaces this."""
    gone = replace(command, step=commands.advance(command.step, Event.EXPIRED), changed_at=now)
    entry = AuditEntry(now, "server", "command-expired", command.device_id, detail=command.id)
    return Turn(changes=(PutCommand(gone), AddAudit(entry)))
