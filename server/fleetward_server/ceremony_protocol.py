"""The protocol of a key ceremony: what was made, signed by every key that was made, checked by anyone at any time.

A JWS in its general JSON form. Its payload holds the plan to the byte, what the token said of itself and of each key,
and each certificate; whoever reads it needs nothing else, and the reviewed plan to compare. It proves that the keys
agreed to it; that they are the provider's is told by the root's fingerprint, which people compare.
Source: S6; RFC 7515 section 7.2.1.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtensionOID

from fleetward_broker.profiles import name_of, usage_of
from fleetward_schemas.certificates import key_thumbprint, public_key, read_certificate, spki
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import PrivateKey, PublicKey, alg_of, approved, sign, verify
from fleetward_schemas.shapes import UpBody
from fleetward_schemas.strict import b64_der, b64url, b64url_decode, read_object
from fleetward_server.ceremony_plan import PROFILES, CertificateWish, Plan, PlanProblem, read_plan

HERE = Path("plan")
TYP = "fleetward-ceremony+jws"
"""No envelope, digital ID or token has this type, and no certificate begins like a JWS: one cannot pass as another."""
MOST_BYTES = 1024 * 1024
MUST_SAY = {
    "sensitive": "yes",
    "always-sensitive": "yes",
    "never-extractable": "yes",
    "local": "yes",
    "extractable": "no",
    "sign": "yes",
}
"""What a key must say of itself, unless the token's URI excuses a word by name."""
MUST_NOT_SAY = {"token": "no", "private": "no", "decrypt": "yes", "unwrap": "yes", "derive": "yes"}
"""What no key may say. A token without a word for it was asked for it all the same."""
_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}


class Unproven(Exception):  # noqa: N818 - says what is wrong with it
    """A protocol does not hold; the message says where."""


class MadeKey(UpBody, frozen=True):
    """A key that was made. spki: base64 of its DER; attributes: what the token said: name -> yes, no, or a word."""

    name: str
    uri: str
    alg: str
    spki: str
    attributes: dict[str, str]


class Named(UpBody, frozen=True):
    """A certificate. der: base64."""

    name: str
    der: str


class Given(Named, frozen=True):
    """An authority that was there before. uri: of its key, whole, so that it means the same everywhere on that host."""

    uri: str


class Report(UpBody, frozen=True):
    """The payload. plan: the file to the byte. token: what it said of itself."""

    ceremony: str
    plan: str
    software: str
    actor: str
    began: str
    ended: str
    token: dict[str, str]
    keys: list[MadeKey]
    certificates: list[Named]
    authorities: list[Given]

    @property
    def plan_sha256(self) -> str:
        """The plan's hash, as ``sha256sum`` prints it."""
        return hashlib.sha256(self.plan.encode()).hexdigest()


def flaws(report: Report) -> Iterator[str]:
    """Hold what was made against the plan and our profiles; nothing is yielded when all of it holds."""
    try:
        plan = read_plan(report.plan.encode(), HERE)
        keys = {one.name: _public(one) for one in report.keys}
        made = {one.name: read_certificate(b64_der(one.der)) for one in report.certificates}
        given = {one.name: read_certificate(b64_der(one.der)) for one in report.authorities}
    except (PlanProblem, Refused) as problem:
        yield str(problem)
        return
    for what, found, wanted in (
        ("keys", keys.keys(), plan.keys.keys()),
        ("certificates", made.keys(), plan.certificates.keys()),
        ("authorities", given.keys(), plan.authorities.keys()),
    ):
        if found != wanted:
            yield f"{what}: {', '.join(sorted(found ^ wanted))}: not as the plan wants"
            return
    for one in report.keys:
        yield from (f"key {one.name}: {flaw}" for flaw in _key_flaws(plan, one, keys[one.name]))
    for name, wish in plan.certificates.items():
        issuer = made.get(wish.issuer) or given[wish.issuer]
        if wish.issuer in given:
            yield from (f"authority {wish.issuer}: {flaw}" for flaw in authority_flaws(issuer, wish))
        yield from (f"certificate {name}: {flaw}" for flaw in _flaws_of(made[name], wish, keys[wish.key], issuer))


def _public(one: MadeKey) -> PublicKey:
    try:
        return approved(load_der_public_key(b64_der(one.spki)))
    except (ValueError, TypeError):
        raise PlanProblem(f"key {one.name}: its public key cannot be read") from None


def _key_flaws(plan: Plan, one: MadeKey, key: PublicKey) -> Iterator[str]:
    wish, excused = plan.keys[one.name], plan.place(HERE).unreported
    if not one.alg == wish.alg == alg_of(key):
        yield f"{one.alg}, over a key for {alg_of(key)}: the plan wants {wish.alg}"
    bits = getattr(key, "key_size", wish.bits)
    if bits != wish.bits:
        yield f"{bits} bits: the plan wants {wish.bits}"
    for word, must in MUST_SAY.items():
        said = one.attributes.get(word, "unreported")
        if said != must and not (said == "unreported" and word in excused):
            yield f"CKA_{word.upper().replace('-', '_')} is {said}, must be {must}"
    for word, never in MUST_NOT_SAY.items():
        if one.attributes.get(word) == never:
            yield f"CKA_{word.upper().replace('-', '_')} is {never}"


def _flaws_of(
    certificate: x509.Certificate, wish: CertificateWish, key: PublicKey, issuer: x509.Certificate
) -> Iterator[str]:
    if spki(public_key(certificate)) != spki(key):
        yield f"not for the key {wish.key}"
    if certificate.subject != name_of(wish.subject):
        yield f"for {certificate.subject.rfc4514_string()}: the plan wants {name_of(wish.subject).rfc4514_string()}"
    if (certificate.not_valid_before_utc, certificate.not_valid_after_utc) != wish.validity:
        yield f"valid {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    if {one.oid for one in certificate.extensions} != _EXTENSIONS:
        yield "other extensions than an authority's four"
        return
    if not _is_authority(certificate, wish):
        yield "basic constraints or key usage are not those of its profile"
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        yield f"not issued by {wish.issuer}"


def authority_flaws(issuer: x509.Certificate, wish: CertificateWish) -> Iterator[str]:
    """Say why an authority that was there before may not issue what is wanted."""
    if not (issuer.not_valid_before_utc <= wish.validity[0] and wish.validity[1] <= issuer.not_valid_after_utc):
        yield "what it would issue is not inside its own validity"
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        yield "no authority"
        return
    if not constraints.ca or constraints.path_length == 0:
        yield "may certify no authority"


def _is_authority(certificate: x509.Certificate, wish: CertificateWish) -> bool:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    wanted = x509.BasicConstraints(ca=True, path_length=PROFILES[wish.profile].path_length)
    may = constraints.critical and usage.critical
    return may and constraints.value == wanted and usage.value == usage_of(authority=True)


def seal(report: Report, keys: dict[str, PrivateKey]) -> bytes:
    """Have every key that was made sign the report; return the protocol file."""
    payload = b64url(report.json().encode())
    signatures = [_signature(payload, key) for key in keys.values()]
    return json.dumps({"payload": payload, "signatures": signatures}, indent=1).encode() + b"\n"


def _signature(payload: str, key: PrivateKey) -> dict[str, str]:
    header = {"alg": alg_of(key), "typ": TYP, "kid": key_thumbprint(key.public_key())}
    protected = b64url(json.dumps(header, separators=(",", ":")).encode())
    return {"protected": protected, "signature": b64url(sign(key, f"{protected}.{payload}".encode()))}


def open_protocol(raw: bytes) -> Report:
    """Read a protocol file, check every signature, and everything that it says.

    Raises:
        Unproven: it does not hold.
    """
    if len(raw) > MOST_BYTES:
        raise Unproven(f"{len(raw)} bytes: a protocol has {MOST_BYTES} at most")
    try:
        document = read_object(raw)
        payload, signatures = document["payload"], document["signatures"]
        report = Report.read(read_object(b64url_decode(payload.encode())))
        keys = {key_thumbprint(_public(one)): _public(one) for one in report.keys}
        for one in signatures:
            _verify(payload, one, keys)
    except (Refused, PlanProblem) as problem:
        raise Unproven(str(problem)) from None
    except (KeyError, TypeError, AttributeError):
        raise Unproven("not a protocol of a ceremony") from None
    if keys:
        raise Unproven(f"{len(keys)} of the keys that were made have not signed it")
    for flaw in flaws(report):
        raise Unproven(flaw)
    return report


def _verify(payload: str, one: dict[str, str], unsigned: dict[str, PublicKey]) -> None:
    """Check one signature, and strike its key off the list of those that have still to sign."""
    header = read_object(b64url_decode(one["protected"].encode()))
    key = unsigned.pop(str(header.get("kid")), None)
    if key is None:
        raise Unproven("a signature by a key that was not made here, or a second one by the same")
    if header != {"alg": alg_of(key), "typ": TYP, "kid": key_thumbprint(key)}:
        raise Unproven("a signature's header is not that of a ceremony")
    verify(key, f"{one['protected']}.{payload}".encode(), b64url_decode(one["signature"].encode()))
