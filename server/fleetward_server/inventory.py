"""Device information at the server: MOSIP's device info, signed by the device key, checked against the record.

What contradicts the record is not kept: it is refused for good, and an alarm in the audit, for a device says it that
was registered as something else. Source: S4b; C3 (the digital ID inside must be the device's own); K1 (level and
purpose are the record's and never change).
"""

from dataclasses import replace

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.inventory import DeviceInfo, Info, read_info
from fleetward_server.changes import AddAudit, CountRefusal, PutDevice, Seen
from fleetward_server.enrol import late_code
from fleetward_server.state import AuditEntry, Device
from fleetward_server.telemetry import stored
from fleetward_server.turn import Known, Policy, Said, Turn


def on_info(said: Said, known: Known, policy: Policy) -> Turn:
    """Keep device info as it came; a device that does not know its code, as MOSIP gave it, is told.

    One whose claim differs from the record is refused by ``bad-body``, with an alarm.

    Raises:
        Refused: ``bad-body``: not signed by this device's key, or another digital ID inside.
    """
    if not isinstance(said.body, Info) or known.device is None:
        raise LocalMistake("on_info was given another kind, or no device")
    info = read_info(said.body.deviceInfo, said.speaker.signer)
    device = known.device
    if info.digitalId != said.digital_id:
        raise Refused(Code.BAD_BODY, "deviceInfo holds another digital ID than the message")
    differs = _contradictions(info, device, policy)
    if differs:
        return _alarmed(said, differs)
    device = replace(device, device_info=said.body.deviceInfo, seen_at=said.arrived_at)
    replies = () if device.device_code in {None, info.deviceCode} else late_code(said, known, policy)
    return Turn(changes=(stored(said), PutDevice(device)), replies=replies, acks=(said.id,))


def _contradictions(info: DeviceInfo, device: Device, policy: Policy) -> str:
    """Return what device info says otherwise than the record; each is a word of a closed list."""
    pairs = (
        ("certification", info.certification, device.certification),
        ("purpose", info.purpose, device.purpose),
        ("env", info.env, policy.environment),
    )
    return "; ".join(f"{name} {said}: the record says {held}" for name, said, held in pairs if said != held)


def _alarmed(said: Said, differs: str) -> Turn:
    entry = AuditEntry(said.arrived_at, f"device:{said.device_id}", "contradiction-alarm", said.device_id, differs)
    changes = (
        CountRefusal(said.device_id, Code.BAD_BODY, said.arrived_at),
        AddAudit(entry),
        Seen(said.device_id, said.arrived_at),
    )
    return Turn(changes=changes, refused=((said.id, Code.BAD_BODY),))
