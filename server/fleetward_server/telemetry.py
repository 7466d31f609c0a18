"""Telemetry and alerts at the server: stored once per (device, id), then named in an ``ack``.

Source: protocol section 4 "Reports"; S8.
"""

from dataclasses import replace

from fleetward_server.changes import AddAudit, AddReport, PutDevice, Seen
from fleetward_server.state import AuditEntry, Presence, Report
from fleetward_server.turn import Known, Policy, Said, Turn
from fleetward_server.upgrade_state import AssignmentWanted


def stored(said: Said) -> AddReport:
    """Return the change that keeps a report: what its shape allows and nothing else."""
    body = said.body.json()
    return AddReport(Report(said.device_id, said.id, said.opened.kind.name, said.opened.at, said.arrived_at, body))


def on_telemetry(said: Said, known: Known, policy: Policy) -> Turn:
    """Keep readings. Who speaks after being given up as silent is there after all."""
    turn = Turn(changes=(stored(said), Seen(said.device_id, said.arrived_at)), acks=(said.id,))
    device = known.device
    if policy.by_hand or device is None or device.presence is not Presence.OFFLINE or device.presence_at is None:
        return turn
    if said.opened.at <= device.presence_at:
        return turn
    back = replace(device, presence=Presence.ONLINE, presence_at=said.arrived_at, seen_at=said.arrived_at)
    return turn._replace(changes=(*turn.changes, PutDevice(back), AssignmentWanted(device.id, said.arrived_at)))


def on_alert(said: Said, _: Known, __: Policy) -> Turn:
    """Keep what a device noticed, and write it where auditors look."""
    body = said.opened.members.body
    entry = AuditEntry(
        said.arrived_at,
        f"device:{said.device_id}",
        "alert",
        said.device_id,
        str(body["code"]),
        f"count {body['count']}",
    )
    return Turn(changes=(stored(said), Seen(said.device_id, said.arrived_at), AddAudit(entry)), acks=(said.id,))
