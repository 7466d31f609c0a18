"""Device information: what MOSIP calls device info, signed by the device key, as the answer to ``collect-info``.

Source: S4b; MOSIP 0.9.5 "Device Info"; C9: discovery and info only, never a capture.
"""

import json
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from fleetward_schemas.certificates import public_key, read_certificate, thumbprint
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.jws import PrivateKey, alg_of, compact, header_alg, split, verify
from fleetward_schemas.shapes import Jws, Moment, Name, UpBody
from fleetward_schemas.strict import b64_der, b64url, read_object, show_der


class DeviceStatus(StrEnum):
    """MOSIP's words for a device's status."""

    READY = "Ready"
    BUSY = "Busy"
    NOT_READY = "Not Ready"
    NOT_REGISTERED = "Not Registered"


LEVELS = {"SBI 1.0": Certification.L0, "SBI 2.0": Certification.L1}
"""What SBI 1.0 calls the levels."""


class Info(UpBody, frozen=True):
    """The report. deviceInfo: MOSIP's device info as a compact JWS by the device key."""

    deviceInfo: Jws  # noqa: N815


class DeviceInfo(UpBody, frozen=True):
    """The payload of ``deviceInfo``: closed, so that nothing else can ride along."""

    deviceId: Name  # noqa: N815
    deviceCode: Name  # noqa: N815
    deviceStatus: DeviceStatus  # noqa: N815
    deviceSubId: Annotated[list[Annotated[str, Meta(pattern=r"\A[0-3]\Z")]], Meta(max_length=4)]  # noqa: N815
    certification: Certification
    serviceVersion: Name  # noqa: N815
    firmware: Name
    specVersion: Annotated[list[Name], Meta(min_length=1, max_length=4)]  # noqa: N815
    purpose: Purpose
    env: Environment
    digitalId: Annotated[str, Meta(max_length=8192)]  # noqa: N815
    timestamp: Moment


def sign_info(info: DeviceInfo, key: PrivateKey, leaf: bytes) -> str:
    """Sign device info by the device key, its certificate in ``x5c``."""
    info.checked()
    return sign_words(info.json().encode(), key, leaf)


def sign_words(payload: bytes, key: PrivateKey, leaf: bytes) -> str:
    """Sign what is device info in another spelling, for who reads it at the host."""
    header = {"alg": alg_of(key), "typ": "JWT", "x5c": [show_der(leaf)]}
    segment = b64url(json.dumps(header, separators=(",", ":")).encode()).encode()
    return compact(segment, payload, key).decode()


def read_info(text: str, signer: str) -> DeviceInfo:
    """Read device info, in either spelling, signed by the certificate whose thumbprint is ``signer``.

    Raises:
        Refused: ``bad-body``.
    """
    try:
        token = split(text.encode("ascii", "replace"))
        leaf = _leaf(token.header)
        if thumbprint(leaf) != signer:
            raise Refused(Code.BAD_BODY, "device info is signed by another certificate than the message")
        key = public_key(read_certificate(leaf))
        if header_alg(token.header) is not alg_of(key):
            raise Refused(Code.BAD_BODY, "device info names another algorithm than its key's")
        verify(key, token.signed, token.signature)
        return DeviceInfo.read(read_spelling(read_object(token.payload)))
    except Refused as refusal:
        raise Refused(Code.BAD_BODY, f"deviceInfo: {refusal.detail}") from None


def read_spelling(document: dict[str, Any]) -> dict[str, Any]:
    """Return device info in the spelling of 0.9.5, if it came in that of SBI 1.0.

    There ``serialNo`` stands for both names, the level has another, and parts may be numbered by integers. What neither
    spelling has stays, for the shape to refuse.
    """
    found = dict(document)
    if isinstance(subs := found.get("deviceSubId"), list):
        found["deviceSubId"] = [str(one) if type(one) is int else one for one in subs]
    if "serialNo" in found and not {"deviceId", "deviceCode"} & found.keys():
        found["deviceId"] = found["deviceCode"] = found.pop("serialNo")
    if isinstance(level := found.get("certification"), str) and level in LEVELS:
        found["certification"] = LEVELS[level]
    return found


def _leaf(header: dict[str, Any]) -> bytes:
    x5c = header.get("x5c")
    if header.keys() != {"alg", "typ", "x5c"} or header["typ"] != "JWT":
        # C10: the header is as closed as the payload, or something could ride along in it.
        raise Refused(Code.MALFORMED, "the header of device info is alg, typ JWT and x5c")
    if not isinstance(x5c, list) or len(x5c) != 1 or not isinstance(x5c[0], str):
        raise Refused(Code.MALFORMED, "x5c holds the one device certificate")
    return b64_der(x5c[0])
