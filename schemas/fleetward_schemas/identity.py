"""The digital ID: who a scanner is, signed by the key that proves it, and the device id derived from it.

MOSIP's digital ID is a compact JWS over eight strings, header ``alg typ=JWT x5c=[leaf]``. At L1 the FTM key signs it,
at L0 the device key (before an L0's first certificate, the factory key).
Source: S1, C2 iv, C3; MOSIP 0.9.5 "Digital ID"; ISO time of issuance in seconds with Z (milliseconds are read too).
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from fleetward_schemas.certificates import public_key, read_certificate, thumbprint
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey, alg_of, compact, header_alg, split, verify
from fleetward_schemas.moment import parse_loose, show, show_seconds
from fleetward_schemas.shapes import DownBody, Unlawful, UpBody
from fleetward_schemas.strict import b64_der, b64url, read_object, show_der
from fleetward_schemas.topics import ID_CHARS, DeviceId

MAX_DIGITAL_ID_CHARS = 8192
SUB_TYPES = {
    "Finger": ("Slap", "Single", "Touchless"),
    "Iris": ("Single", "Double"),
    "Face": ("Full face",),
}


class Certification(StrEnum):
    """MOSIP's certification levels; L2 was removed in 2021."""

    L0 = "L0"
    L1 = "L1"


class Purpose(StrEnum):
    """What a device is registered for; immutable, and Auth needs L1 (clause K1)."""

    AUTH = "Auth"
    REGISTRATION = "Registration"


class Environment(StrEnum):
    """MOSIP's environments, exact spelling (clause E2)."""

    STAGING = "Staging"
    DEVELOPER = "Developer"
    PRE_PRODUCTION = "Pre-Production"
    PRODUCTION = "Production"


def _ascii(maximum: int) -> Meta:
    return Meta(min_length=1, max_length=maximum, pattern=r"\A[\x20-\x7e]+\Z")


class DigitalId(UpBody, frozen=True):
    """The eight mandatory strings; lengths are those of MOSIP's partner management."""

    serialNo: Annotated[str, _ascii(64)]  # noqa: N815 - the wire's own names
    make: Annotated[str, _ascii(36)]
    model: Annotated[str, _ascii(36)]
    type: Literal["Finger", "Iris", "Face"]
    deviceSubType: Annotated[str, _ascii(36)]  # noqa: N815
    deviceProvider: Annotated[str, _ascii(128)]  # noqa: N815
    deviceProviderId: Annotated[str, _ascii(36)]  # noqa: N815
    dateTime: Annotated[str, _ascii(24)]  # noqa: N815

    def __post_init__(self) -> None:
        if self.deviceSubType not in SUB_TYPES[self.type]:
            raise Unlawful(f"deviceSubType of {self.type} is one of {', '.join(SUB_TYPES[self.type])}")
        try:
            parse_loose(self.dateTime)
        except Refused:
            raise Unlawful("dateTime is not an ISO moment in UTC") from None

    def at(self, moment: datetime) -> "DigitalId":
        """Return the same identity, issued at ``moment``, told as finely as this one: to the second or millisecond.

        MOSIP's registration clients read seconds alone, its partner management 1.1 milliseconds alone.
        """
        fine = len(self.dateTime) > len("YYYY-MM-DDTHH:MM:SSZ")
        return self.changed(dateTime=(show if fine else show_seconds)(moment))

    def same_device(self, other: "DigitalId") -> bool:
        """Say whether both name one device: all but the time of issuance is equal."""
        return self.changed(dateTime=other.dateTime) == other


class ServerId(DownBody, frozen=True):
    """Who the server is, on messages to the whole fleet; a JWS by its signing key."""

    deviceProvider: Annotated[str, _ascii(128)]  # noqa: N815
    deviceProviderId: Annotated[str, _ascii(36)]  # noqa: N815
    env: Environment
    dateTime: Annotated[str, _ascii(24)]  # noqa: N815


@dataclass(frozen=True, slots=True)
class SignedIdentity:
    """A digital ID whose signature held.

    leaf: DER of the certificate in its ``x5c``; trust in it is not decided here.
    """

    digital_id: DigitalId
    leaf: bytes

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the signing certificate, base64url."""
        return thumbprint(self.leaf)

    @property
    def key(self) -> PublicKey:
        """The key that signed."""
        return public_key(read_certificate(self.leaf))


def device_id(digital_id: DigitalId) -> DeviceId:
    """Derive the device id: lower-case base32 of SHA-256 over four length-prefixed fields, first 26 characters."""
    digest = hashlib.sha256()
    for field in (digital_id.deviceProviderId, digital_id.make, digital_id.model, digital_id.serialNo):
        raw = field.encode("ascii")
        digest.update(len(raw).to_bytes(2, "big") + raw)
    return DeviceId(base64.b32encode(digest.digest()).decode().lower()[:ID_CHARS])


def sign_identity(identity: DigitalId | ServerId, key: PrivateKey, leaf: bytes) -> str:
    """Sign an identity as MOSIP writes it: header ``alg``, ``typ`` JWT, ``x5c`` with the leaf alone."""
    header = {"alg": alg_of(key), "typ": "JWT", "x5c": [show_der(leaf)]}
    segment = b64url(json.dumps(header, separators=(",", ":")).encode()).encode()
    return compact(segment, identity.json().encode(), key).decode()


def read_identity(text: str) -> SignedIdentity:
    """Read a signed digital ID and check its signature against the certificate it carries.

    Raises:
        Refused: ``bad-digital-id`` for whatever is wrong with it.
    """
    try:
        payload, leaf = _read(text)
        return SignedIdentity(digital_id=DigitalId.read(read_object(payload)), leaf=leaf)
    except Refused as refusal:
        raise Refused(Code.BAD_DIGITAL_ID, refusal.detail) from None


def _read(text: str) -> tuple[bytes, bytes]:
    if len(text) > MAX_DIGITAL_ID_CHARS:
        raise Refused(Code.MALFORMED, f"{len(text)} characters: at most {MAX_DIGITAL_ID_CHARS}")
    try:
        token = split(text.encode("ascii"))
    except UnicodeEncodeError:
        raise Refused(Code.MALFORMED, "not ASCII") from None
    header = token.header
    alg: Alg = header_alg(header)
    x5c = header.get("x5c")
    if header.keys() != {"alg", "typ", "x5c"} or header["typ"] != "JWT":
        raise Refused(Code.MALFORMED, "a digital ID's header is alg, typ JWT and x5c")
    if not isinstance(x5c, list) or not x5c or not all(isinstance(one, str) for one in x5c):
        raise Refused(Code.MALFORMED, "x5c holds no certificate")
    # MOSIP: "In case the chain of certificates are sent then the same will be ignored". C10: but it must be one.
    leaf, *_ = ders = [b64_der(one) for one in x5c]
    for der in ders:
        read_certificate(der)
    key = public_key(read_certificate(leaf))
    if alg_of(key) != alg:
        raise Refused(Code.BAD_ALG, f"{alg} with a key for {alg_of(key)}")
    verify(key, token.signed, token.signature)
    return token.payload, leaf


def may_serve(certification: Certification, purpose: Purpose) -> bool:
    """Say whether a device of this level may be registered for this purpose (K1: capture for Auth needs L1)."""
    return purpose is not Purpose.AUTH or certification is Certification.L1
