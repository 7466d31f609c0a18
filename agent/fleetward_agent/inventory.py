"""Device information: MOSIP's device info as this device would sign it. Discovery and status, never a capture.

Source: S4b; MOSIP 0.9.5 "Device Info"; C9.
"""

from fleetward_agent.instant import Instant
from fleetward_agent.ports import Sighting
from fleetward_agent.session import Session
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.inventory import DeviceInfo
from fleetward_schemas.moment import show

SPEC_VERSIONS = ("0.9.5",)
NO_CODE = "unassigned"
"""What stands for the device code until the register outside has given one."""
SUB_IDS = {("Finger", "Slap"): ("1", "2", "3"), ("Iris", "Double"): ("1", "2", "3")}
"""Parts of a scanner that can be told apart (left, right, both); "0" where they cannot."""


def describe(session: Session, sighting: Sighting, at: Instant) -> DeviceInfo:
    """Return the device info to sign."""
    if session.kept.pair is None:
        raise LocalMistake("device info of a device without a certificate")
    identity = session.facts.identity
    return DeviceInfo(
        deviceId=session.facts.device_id,
        deviceCode=session.kept.device_code or NO_CODE,
        deviceStatus=sighting.status,
        deviceSubId=list(SUB_IDS.get((identity.type, identity.deviceSubType), ("0",))),
        certification=session.facts.certification,
        serviceVersion=sighting.service_version,
        firmware=sighting.firmware,
        specVersion=list(SPEC_VERSIONS),
        purpose=session.facts.purpose,
        env=session.facts.env,
        digitalId=session.kept.pair.digital_id,
        timestamp=show(session.clock.now(at.boot_us)),
    )
