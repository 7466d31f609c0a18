"""What MOSIP's interface to a device calls things: versions, error codes, and device info in each spelling.

0.9.5 names a device ``deviceId`` and ``deviceCode`` and its level L0 or L1; SBI 1.0 says ``serialNo``, and "SBI 1.0" or
"SBI 2.0". Ours is the first; the second is read as well. A digital ID tells its moment in seconds, a message in
milliseconds. Source: MOSIP 0.9.5 and SBI 1.0 RC, "Device Discovery", "Device Info", error codes of October 2023.
"""

from enum import IntEnum, StrEnum
from typing import Any

from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose
from fleetward_schemas.inventory import LEVELS, DeviceStatus


class SpecVersion(StrEnum):
    """Which spelling."""

    MDS = "0.9.5"
    SBI = "1.0.0"


class DeviceError(IntEnum):
    """Every code that MOSIP gave a meaning; those of a finger or an eye are never ours to say."""

    SUCCESS = 0
    NOT_REGISTERED = 100
    NOTHING_DETECTED = 101
    EXTRACTION_FAILED = 102
    TAMPERED = 103
    NO_MANAGEMENT_SERVER = 104
    BAD_ORIENTATION = 105
    NOT_FOUND = 106
    DEVICE_KEY_EXPIRED = 107
    DOMAIN_KEY_MISSING = 108
    COUNT_NOT_SUPPORTED = 109
    NOT_READY = 110
    BUSY = 111
    BAD_TRANSACTION = 112


ERRORS: dict[DeviceError, str] = {
    DeviceError.SUCCESS: "Success",
    DeviceError.NOT_REGISTERED: "Device not registered",
    DeviceError.NOTHING_DETECTED: "Unable to detect a biometric object",
    DeviceError.EXTRACTION_FAILED: "Technical error during extraction",
    DeviceError.TAMPERED: "Device tamper detected",
    DeviceError.NO_MANAGEMENT_SERVER: "Unable to connect to management server",
    DeviceError.BAD_ORIENTATION: "Image orientation error",
    DeviceError.NOT_FOUND: "Device not found",
    DeviceError.DEVICE_KEY_EXPIRED: "Device public key expired",
    DeviceError.DOMAIN_KEY_MISSING: "Domain public key missing",
    DeviceError.COUNT_NOT_SUPPORTED: "Requested number of biometric (Finger/IRIS) not supported",
    DeviceError.NOT_READY: "Device not ready",
    DeviceError.BUSY: "Device busy",
    DeviceError.BAD_TRANSACTION: "Invalid transactionId",
}
STATUS: dict[DeviceError, DeviceStatus] = {
    DeviceError.SUCCESS: DeviceStatus.READY,
    DeviceError.NOT_REGISTERED: DeviceStatus.NOT_REGISTERED,
    DeviceError.NO_MANAGEMENT_SERVER: DeviceStatus.NOT_READY,
    DeviceError.NOT_FOUND: DeviceStatus.NOT_READY,
    DeviceError.DEVICE_KEY_EXPIRED: DeviceStatus.NOT_READY,
    DeviceError.DOMAIN_KEY_MISSING: DeviceStatus.NOT_READY,
    DeviceError.NOT_READY: DeviceStatus.NOT_READY,
    DeviceError.BUSY: DeviceStatus.BUSY,
}
"""The codes that a management client can know of, and the status each goes with."""
_SPELLED = {level: word for word, level in LEVELS.items()}


def error(code: DeviceError) -> dict[str, str]:
    """Return the ``error`` member of an answer."""
    return {"errorCode": str(int(code)), "errorInfo": ERRORS[code]}


def words(
    version: SpecVersion,
    of: tuple[DigitalId, Certification, Purpose, Environment],
    code: DeviceError,
    more: dict[str, Any],
) -> dict[str, Any]:
    """Return device info as one version spells it, unsigned. more: deviceId, deviceCode and what both share.

    A device that is not registered has no purpose, and its environment is None.
    """
    identity, level, purpose, env = of
    registered = code is not DeviceError.NOT_REGISTERED
    shared = {
        "deviceStatus": STATUS[code],
        "specVersion": [version],
        "purpose": purpose if registered else "",
        "env": env if registered else "None",
    }
    if version is SpecVersion.MDS:
        return shared | more | {"certification": level}
    named = {name: value for name, value in more.items() if name not in {"deviceId", "deviceCode"}}
    return shared | named | {"certification": _SPELLED[level], "serialNo": identity.serialNo}
