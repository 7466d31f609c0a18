"""Device information at the server: MOSIP's device info, signed by the device key, checked against the record.

Source: S4b; C3 (the digital ID inside must be the device's own).
"""

from dataclasses import replace

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.inventory import Info, read_info
from fleetward_server.enrol import late_code
from fleetward_server.state import PutDevice
from fleetward_server.telemetry import stored
from fleetward_server.turn import Known, Policy, Said, Turn


def on_info(said: Said, known: Known, policy: Policy) -> Turn:
    """Keep device info as it came; a device that does not know its code, as MOSIP gave it, is told.

    Raises:
        Refused: ``bad-body``: not signed by this device's key, another digital ID inside, or a claim that differs.
    """
    if not isinstance(said.body, Info) or known.device is None:
        raise LocalMistake("on_info was given another kind, or no device")
    info = read_info(said.body.deviceInfo, said.speaker.signer)
    device = known.device
    if info.digitalId != said.digital_id:
        raise Refused(Code.BAD_BODY, "deviceInfo holds another digital ID than the message")
    if (info.certification, info.purpose) != (device.certification, device.purpose):
        raise Refused(Code.BAD_BODY, f"deviceInfo claims {info.certification} {info.purpose}: the record differs")
    device = replace(device, device_info=said.body.deviceInfo, seen_at=said.arrived_at)
    replies = () if device.device_code in {None, info.deviceCode} else late_code(said, known, policy)
    return Turn(changes=(stored(said), PutDevice(device)), replies=replies, acks=(said.id,))
