"""What the host's software is told of a device: MOSIP's status and error code from where the device really stands.

Pure. What is registered is signed by the device key, what is not is plain base64url, as MOSIP has it; the digital ID of
an L1 is its FTM's word in either case. Nothing here can ask for a capture (C9). Source: MOSIP 0.9.5 and SBI 1.0.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward_agent.inventory import SUB_IDS
from fleetward_agent.ports import Sighting
from fleetward_agent.session import Session
from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.identity import Purpose
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.moment import show
from fleetward_schemas.sbi import DeviceError, SpecVersion, error, words
from fleetward_schemas.strict import b64_der, b64url

Sign = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of a device. sighting: None when its scanner is not there."""

    session: Session
    sighting: Sighting | None
    boot_us: int


def code_of(looked: Looked) -> DeviceError:
    """Return the code of what keeps a device from its work, the gravest first; 0 when nothing does."""
    session, kept = looked.session, looked.session.kept
    if session.pair is None or kept.gone is not None or session.retiring or session.retired:
        return DeviceError.NOT_REGISTERED
    if looked.sighting is None:
        return DeviceError.NOT_FOUND
    if not session.clock.synced(looked.boot_us):
        # S3: no time of its own, so it may stamp nothing; without a line the server is what is missing.
        return DeviceError.NOT_READY if session.connected else DeviceError.NO_MANAGEMENT_SERVER
    now = session.clock.now(looked.boot_us)
    if ends_at(session.pair.device_chain) <= now:
        return DeviceError.DEVICE_KEY_EXPIRED
    if _lacks_domain_key(session, now):
        return DeviceError.DOMAIN_KEY_MISSING
    return _BY_STATUS[looked.sighting.status]


_BY_STATUS = {
    DeviceStatus.READY: DeviceError.SUCCESS,
    DeviceStatus.BUSY: DeviceError.BUSY,
    DeviceStatus.NOT_READY: DeviceError.NOT_READY,
    DeviceStatus.NOT_REGISTERED: DeviceError.NOT_READY,
}


def _lacks_domain_key(session: Session, now: datetime) -> bool:
    """Say whether a device for authentication that is given MOSIP's anchors has nobody to encrypt for now."""
    if session.facts.mosip is None or session.facts.purpose is not Purpose.AUTH:
        return False
    held = (read_certificate(b64_der(one.certificate)) for one in session.kept.encryption)
    return not any(one.not_valid_before_utc <= now < one.not_valid_after_utc for one in held)


def ends_at(chain: tuple[str, ...]) -> datetime:
    """Return when the leaf of a chain in base64 ends."""
    return read_certificate(b64_der(chain[0])).not_valid_after_utc


def tell(looked: Looked, code: DeviceError, callback: str, signed: tuple[str, Sign | None]) -> dict[str, Any]:
    """Return all that is told of one device. signed: its digital ID, and how to sign; None when it cannot be.

    A digital ID that is not signed is its payload in base64url, and so is device info then.
    """
    digital_id, sign = signed
    session = looked.session
    spelled = {version: _words(looked, code, callback, version) for version in SpecVersion}
    return {
        "deviceId": session.facts.device_id,
        "deviceStatus": spelled[SpecVersion.MDS]["deviceStatus"],
        "error": error(code),
        "discovery": {
            version: _discovered(found, digital_id) | {"error": error(code)} for version, found in spelled.items()
        },
        "info": {
            version: {"deviceInfo": _signed(found | {"digitalId": digital_id}, sign, code), "error": error(code)}
            for version, found in spelled.items()
        },
    }


def _words(looked: Looked, code: DeviceError, callback: str, version: SpecVersion) -> dict[str, Any]:
    facts, sighting = looked.session.facts, looked.sighting
    registered = code is not DeviceError.NOT_REGISTERED
    identity = facts.identity
    more = {
        "deviceId": facts.device_id,
        "deviceCode": (looked.session.kept.device_code or identity.serialNo) if registered else None,
        "deviceSubId": list(SUB_IDS.get((identity.type, identity.deviceSubType), ("0",))),
        "firmware": "unknown" if sighting is None else sighting.firmware,
        "serviceVersion": "unknown" if sighting is None else sighting.service_version,
        "callbackId": callback,
    }
    return words(version, (identity, facts.certification, facts.purpose, facts.env), code, more)


def _discovered(found: dict[str, Any], digital_id: str) -> dict[str, Any]:
    """In discovery the digital ID is never signed, and neither environment nor firmware is told."""
    plain = digital_id.split(".")[1] if "." in digital_id else digital_id
    return {name: value for name, value in found.items() if name not in {"env", "firmware"}} | {"digitalId": plain}


def _signed(found: dict[str, Any], sign: Sign | None, code: DeviceError) -> str | None:
    raw = json.dumps(found, separators=(",", ":")).encode()
    if code is DeviceError.NOT_REGISTERED:
        return b64url(raw)
    return None if sign is None else sign(raw)


def unsigned_identity(looked: Looked) -> str:
    """Return the digital ID of a device that nothing signs for yet."""
    now = looked.session.clock.now(looked.boot_us)
    return b64url(looked.session.facts.identity.at(now).json().encode())


def document(told: tuple[dict[str, Any], ...], now: datetime | None) -> dict[str, Any]:
    """Return the whole document. now: trusted time, None while there is none. Without a scanner that is said."""
    code = DeviceError.SUCCESS if told else DeviceError.NOT_FOUND
    return {"at": None if now is None else show(now), "error": error(code), "devices": list(told)}


def answer(whole: dict[str, Any], asked: str) -> dict[str, Any]:
    """Return the answer to one line: ``status``, or ``discovery`` or ``info`` and a version of the specification.

    Every other word, whatever it asks for, is answered alike and does nothing (C9).
    """
    word, _, version = asked.partition(" ")
    if word == "status" and not version:
        devices = [{name: one[name] for name in ("deviceId", "deviceStatus", "error")} for one in whole["devices"]]
        return {"at": whole["at"], "error": whole["error"], "devices": devices}
    if word in {"discovery", "info"} and (version or SpecVersion.MDS) in set(SpecVersion):
        told = [one[word][SpecVersion(version or SpecVersion.MDS)] for one in whole["devices"]]
        return {"at": whole["at"], "error": whole["error"], word: told}
    expected = f"status, discovery or info, and {' or '.join(SpecVersion)}"
    return {"error": {"errorCode": "500", "errorInfo": f"unknown request: expected {expected}"}}
