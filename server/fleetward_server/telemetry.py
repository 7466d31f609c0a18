"""Telemetry and alerts at the server: stored once per (device, id), then named in an ``ack``.

Source: protocol section 4 "Reports"; S8.
"""

from fleetward_server.state import AddAudit, AddReport, AuditEntry, Report, Seen
from fleetward_server.turn import Known, Policy, Said, Turn


def stored(said: Said) -> AddReport:
    """Return the change that keeps a report: what its shape allows and nothing else."""
    body = said.body.model_dump_json()
    return AddReport(Report(said.device_id, said.id, said.opened.kind.name, said.opened.at, said.arrived_at, body))


def on_telemetry(said: Said, _: Known, __: Policy) -> Turn:
    """Keep readings."""
    return Turn(changes=(stored(said), Seen(said.device_id, said.arrived_at)), acks=(said.id,))


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
