"""Handing MOSIP the provider's certificate, or an FTM maker's, and all above it; taking back what it signed.

Authorities go up one at a time, the root first, since of several in one upload a service says only that some failed.
Those it has already are no failure, nor is a chip's row. What it would refuse by its own rules can be foreseen without
asking. Source: partner management ``certificate/ca/upload``, ``certificate/upload``, ``ftpchipdetail``; keymanager
``PartnerCertificateManagerServiceImpl``; S2.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from fleetward_schemas.certificates import (
    is_signed_by,
    key_thumbprint,
    public_key,
    read_certificate,
    read_pem_certificates,
)
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Purpose
from fleetward_server.config import Config
from fleetward_server.generations import open_issuer, roots
from fleetward_server.mosip.answers import Meaning, errors_of, judged, printable
from fleetward_server.mosip.chips import KNOWN, Chip
from fleetward_server.mosip.encryption import PEM
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.onboarding import Domain, Hand
from fleetward_server.mosip.operating import explained
from fleetward_server.mosip.profiles import wrapped
from fleetward_server.mosip.signing import loose
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.problem import Kind, OperatorProblem

AUTHORITY = "/v1/partnermanager/partners/certificate/ca/upload"
PARTNER = "/v1/partnermanager/partners/certificate/upload"
COLUMNS = ("what", "subject", "not_after", "state", "code", "detail")
UPLOADED = "Upload Success."
LEAST_AUTHORITY, LEAST_PARTNER = timedelta(days=365), timedelta(days=335)
"""How long each must still be valid by MOSIP's own configuration: 12 months; a year less 30 days of grace."""
LEAST_BITS = 2048


@dataclass(frozen=True, slots=True)
class Step:
    """One certificate of a hand, or its chip's row. what: authority, chip or certificate.

    state: to-upload, uploaded, made, there-already, signed.
    """

    what: str
    subject: str
    not_after: datetime
    state: str
    code: str = ""
    detail: str = ""


def of_provider(config: Config, pem: bytes | None) -> Hand:
    """Return the hand of the provider.

    pem: a certificate over the device CA's key by an authority that the adopter approves, and what leads to its root,
    in any order; None: the device CA's own, under the provider's root.

    Raises:
        OperatorProblem: ``invalid``: none is over that key, or no path leads from it to a root.
        KeyUnavailable, AuthorityProblem: the device CA cannot be opened.
    """
    own = open_issuer(config, "device-ca").certificate
    handed = (own, *roots(config)) if pem is None else _read(pem)
    ours = [one for one in handed if key_thumbprint(public_key(one)) == key_thumbprint(public_key(own))]
    if not ours:
        raise OperatorProblem(Kind.INVALID, "no certificate in it is over the device CA's key; see fleetward mosip csr")
    return Hand(Domain.DEVICE, config.provider.id, _path(ours[0], handed))


def of_maker(config: Config, pem: bytes, partner_id: str, chip: tuple[str, str, Purpose] | None = None) -> Hand:
    """Return the hand of an FTM maker. pem: its certificate and what leads to its root, in any order.

    chip: make, model and purpose, if the certificate is one of its chips' there.

    Raises:
        OperatorProblem: ``invalid``: more than one of them certifies no other, no path, no partner id, or no such chip.
    """
    handed = _read(pem)
    last = [one for one in handed if not any(one != other and is_signed_by(other, one) for other in handed)]
    if len(last) != 1:
        expected = "expected the maker's alone"
        raise OperatorProblem(Kind.INVALID, f"{len(last)} certificates in it certify no other: {expected}")
    named = partner_id or config.mosip.trust_provider_id
    if not named:
        raise OperatorProblem(Kind.INVALID, "whose is it? give --partner-id, or [mosip] trust_provider_id")
    wanted = None if chip is None else Chip(named, *chip)
    if wanted is not None and not wanted.lawful:
        raise OperatorProblem(Kind.INVALID, "--make and --model: expected both, of 1..36 characters each")
    return Hand(Domain.FTM, named, _path(last[0], handed), wanted)


def foreseen(hand: Hand, now: datetime) -> tuple[Step, ...]:
    """Return what would be handed over, in order, each with the code by which MOSIP's own rules would refuse it."""
    certificate, *above = hand.path
    codes = [_authority_code(one, now) for one in reversed(above)] + [_partner_code(certificate, now)]
    steps = [
        _step(hand, one, "to-upload", code, explained(code) if code else "")
        for one, code in zip(reversed(hand.path), codes, strict=True)
    ]
    if hand.for_devices:
        codes = [_authority_code(one, now) for one in reversed(hand.path)]
        more = zip(reversed(hand.path), codes, strict=True)
        steps += [
            replace(_step(hand, one, "to-upload", code), what="authority", detail=Domain.DEVICE) for one, code in more
        ]
    if hand.chip is not None:
        steps.insert(-1, Step("chip", hand.chip.name, certificate.not_valid_after_utc, "to-upload"))
    return tuple(steps)


def upload(tokens: Tokens, hand: Hand, now: datetime) -> tuple[tuple[Step, ...], bytes]:
    """Hand all of it over; return what became of each, and what MOSIP signed, PEM.

    Raises:
        OperatorProblem: ``held``: MOSIP refuses one, with its code; those before it are there. ``failed``: there is no
            answer of MOSIP's. ``unverified``: it signed another key.
    """
    certificate, *above = hand.path
    done = [_authority(tokens, hand, one, hand.domain, now) for one in reversed(above)]
    if hand.for_devices:
        done += [_authority(tokens, hand, one, Domain.DEVICE, now) for one in reversed(hand.path)]
    if hand.chip is None:
        request = {"certificateData": _pem(certificate), "partnerDomain": hand.domain, "partnerId": hand.partner_id}
        answer = _ask(tokens, PARTNER, request, certificate, now)
    else:
        row, state = _chip_row(tokens, hand.chip, now)
        done.append(Step("chip", hand.chip.name, certificate.not_valid_after_utc, state))
        asked = hand.chip.handed(row, _pem(certificate), _organisation(certificate), now)
        answer = _answered(tokens, asked, hand.chip.name, now)
    signed = _signed(certificate, _member(answer, "signedCertificateData"))
    done.append(_step(hand, certificate, "signed"))
    return tuple(done), b"".join(one.public_bytes(Encoding.PEM) for one in signed)


def _authority(tokens: Tokens, hand: Hand, one: x509.Certificate, domain: Domain, now: datetime) -> Step:
    answer = _ask(tokens, AUTHORITY, {"certificateData": _pem(one), "partnerDomain": domain}, one, now)
    known = errors_of(answer)
    if not known and _member(answer, "status") != UPLOADED:
        said = printable(_member(answer, "status"), 100)
        raise OperatorProblem(Kind.FAILED, f"{_name(one)}: MOSIP says {said!r}")
    step = _step(hand, one, "there-already" if known else "uploaded", known[0].code if known else "")
    return replace(step, what="authority", detail=domain if hand.for_devices else step.detail)


def _chip_row(tokens: Tokens, chip: Chip, now: datetime) -> tuple[str, str]:
    """Return the id of a chip's row there, making it where it is not, and which of the two it was."""
    try:
        answer = _answered(tokens, chip.made(now), chip.name, now, KNOWN)
        if not errors_of(answer):
            return chip.row_made(answer), "made"
        return chip.row_found(_answered(tokens, chip.searched(now), chip.name, now)), "there-already"
    except Refused as refusal:
        raise OperatorProblem(Kind.FAILED, f"{chip.name}: {refusal.detail}") from None


def _ask(tokens: Tokens, path: str, request: dict[str, str], of: x509.Certificate, now: datetime) -> Answer:
    asked = Asked("POST", path, wrapped("io.mosip.certificate.upload", request, now))
    return _answered(tokens, asked, _name(of), now)


def _answered(tokens: Tokens, asked: Asked, name: str, now: datetime, known: frozenset[str] = frozenset()) -> Answer:
    """Ask; what it knows already is an answer. known: codes that say so here."""
    try:
        answer = tokens.ask(asked, now)
    except Unreachable as why:
        raise OperatorProblem(Kind.FAILED, f"{name}: {why.code}: {why.detail}") from None
    except NoToken as why:
        raise OperatorProblem(Kind.FAILED, f"{why.fault.code}: {why.fault.detail}") from None
    found = errors_of(answer)
    if found:
        means, fault = judged(found)
        if means is not Meaning.DONE and fault.code not in known:
            kind = Kind.HELD if means is Meaning.REFUSED else Kind.FAILED
            raise OperatorProblem(kind, f"{name}: {fault.code}: {fault.detail} ({explained(fault.code)})")
    return answer


def _signed(sent: x509.Certificate, text: object) -> tuple[x509.Certificate, ...]:
    """Read what came back: the certificate in PEM, or a p7b of it and what is above."""
    try:
        if not isinstance(text, str):
            raise Refused(Code.MALFORMED, "an answer without signedCertificateData")
        found = read_pem_certificates(text.encode("ascii", "replace")) if PEM in text else _of_p7(text)
        if key_thumbprint(public_key(found[0])) != key_thumbprint(public_key(sent)):
            raise Refused(Code.UNKNOWN_SIGNER, "what MOSIP signed is over another key")
    except Refused as refusal:
        raise OperatorProblem(Kind.UNVERIFIED, f"{_name(sent)}: {refusal.code}: {refusal.detail}") from None
    return found


def _of_p7(text: str) -> tuple[x509.Certificate, ...]:
    with warnings.catch_warnings():
        # MOSIP's serial numbers may be negative; whoever imports them says so.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            found = pkcs7.load_der_pkcs7_certificates(loose("".join(text.split())))
        except (ValueError, UnsupportedAlgorithm):
            found = []
        if not found:
            raise Refused(Code.MALFORMED, "neither certificates in PEM nor a p7b")
        return tuple(read_certificate(one.public_bytes(Encoding.DER)) for one in found)


def _authority_code(one: x509.Certificate, now: datetime) -> str:
    return next(_wrong(one, now, LEAST_AUTHORITY, "KER-PCM-017"), "")


def _partner_code(one: x509.Certificate, now: datetime) -> str:
    return next(_wrong(one, now, LEAST_PARTNER, "KER-KMS-021"), "") or next(_wrong_partner(one), "")


def _wrong(one: x509.Certificate, now: datetime, least: timedelta, short: str) -> Iterator[str]:
    if one.not_valid_before_utc > now:
        yield "KER-PMS-020"
    if one.not_valid_after_utc < now:
        yield "KER-PCM-004"
    if one.not_valid_after_utc < now + least:
        yield short
    if one.version is not x509.Version.v3:
        yield "KER-PCM-007"


def _wrong_partner(one: x509.Certificate) -> Iterator[str]:
    if one.issuer == one.subject:
        yield "KER-PCM-015"
    if not one.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME):
        yield "KER-PCM-008"
    key = one.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_BITS:
        yield "KER-PCM-013"
    used = one.signature_hash_algorithm
    if used is None or used.name not in {"sha256", "sha384", "sha512"}:
        yield "KER-PCM-014"


def _read(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return read_pem_certificates(pem)
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"--file: {refusal.detail}") from None


def _path(certificate: x509.Certificate, handed: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    path = [certificate]
    while not is_signed_by(path[-1], path[-1]):
        above = next((one for one in handed if one not in path and is_signed_by(path[-1], one)), None)
        if above is None:
            raise OperatorProblem(
                Kind.INVALID, f"{path[-1].issuer.rfc4514_string()}: not there; expected all up to a root"
            )
        path.append(above)
    return tuple(path)


def _step(hand: Hand, one: x509.Certificate, state: str, code: str = "", detail: str = "") -> Step:
    what = "certificate" if one == hand.path[0] else "authority"
    return Step(what, _name(one), one.not_valid_after_utc, state, code, detail)


def _member(answer: Answer, name: str) -> object:
    response = answer.body.get("response")
    return response.get(name) if isinstance(response, dict) else None


def _organisation(one: x509.Certificate) -> str:
    named = one.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(named[0].value) if named else ""


def _name(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()


def _pem(one: x509.Certificate) -> str:
    return one.public_bytes(Encoding.PEM).decode()
