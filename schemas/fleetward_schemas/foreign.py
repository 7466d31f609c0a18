"""Chains from elsewhere: FTM makers' and MOSIP's own, behind leniencies named, chosen for one anchor, and told.

A path is walked as it was handed over (leaf first, each certified by the next, RFC 7515 section 4.1.6): nothing is
searched for. A leniency excuses a lack in form. What makes a path a path has none: every signature, SHA-256 or better,
approved keys, names, every validity at ``now`` the anchor's too, and authorities that say they are authorities.
Source: RFC 5280 sections 4.2 and 6.1; MOSIP's table of approved cryptography.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise, takewhile
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from fleetward_schemas.certificates import (
    CLIENT_AUTH,
    MAX_X5C,
    Anchors,
    Chain,
    common_name,
    extensions_of,
    public_key,
    read_certificate,
    serial_of,
    thumbprint,
    unit_of,
)
from fleetward_schemas.errors import Code, Refused

T = TypeVar("T", bound=x509.ExtensionType)
SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
    }
)
MAX_SERIAL_BITS = 159
ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


class Leniency(StrEnum):
    """Everything that may be excused."""

    NEGATIVE_SERIAL = "negative-serial"
    NO_EXTENSIONS = "no-extensions"
    MISSING_KEY_IDENTIFIERS = "missing-key-identifiers"
    LOOSE_CONSTRAINTS = "loose-constraints"
    LOOSE_KEY_USAGE = "loose-key-usage"


MEANINGS = {
    Leniency.NEGATIVE_SERIAL: "a serial number that is negative or zero",
    Leniency.NO_EXTENSIONS: "a leaf or an anchor without any extension, X.509 version 1 too; never one between them",
    Leniency.MISSING_KEY_IDENTIFIERS: "no subject key identifier, or no authority key identifier that names a key",
    Leniency.LOOSE_CONSTRAINTS: "an authority's basicConstraints that are not critical",
    Leniency.LOOSE_KEY_USAGE: "an authority without keyUsage",
}


class Place(StrEnum):
    """Where in its path a certificate stands."""

    LEAF = "leaf"
    BETWEEN = "between"
    ANCHOR = "anchor"


_EVERYWHERE = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME}
UNDERSTOOD = {
    Place.LEAF: frozenset({*_EVERYWHERE, ExtensionOID.EXTENDED_KEY_USAGE}),
    Place.BETWEEN: frozenset(_EVERYWHERE),
    Place.ANCHOR: frozenset(_EVERYWHERE),
}
"""Which extensions may be critical where; any other that is makes a certificate nobody here can judge."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root from elsewhere, and what its operator excuses below and in it."""

    certificate: x509.Certificate
    allowed: frozenset[Leniency] = frozenset()


class ForeignAnchors:
    """Anchors of other people's chains; an immutable value, made anew when trust changes."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        """Hold ``anchors``; what one excuses, it excuses for its own paths alone."""
        self._anchors = tuple(anchors)

    def verify(self, ders: tuple[bytes, ...], now: datetime) -> Chain:
        """Verify a path, leaf first, at ``now``; it says which leniencies it needed.

        Raises:
            Refused: ``malformed``, ``bad-alg``, or ``unknown-signer`` when no path leads to an anchor at ``now``.
        """
        if not 1 <= len(ders) <= MAX_X5C:
            raise Refused(Code.MALFORMED, f"{len(ders)} certificates: 1..{MAX_X5C} make a path")
        handed = [read_certificate(der) for der in ders]
        for certificate in handed:
            public_key(certificate)
        refusal = Refused(Code.UNKNOWN_SIGNER, "no anchor has certified it")
        for anchor in self._anchors:
            if any(one.issuer == anchor.certificate.subject for one in handed):
                try:
                    return verify_under(anchor, handed, now)
                except Refused as found:
                    refusal = found
        raise refusal


def verify_under(anchor: Anchor, handed: Sequence[x509.Certificate], now: datetime) -> Chain:
    """Verify a path under one anchor.

    Raises:
        Refused: ``malformed``, ``bad-alg`` or ``unknown-signer``.
    """
    path = path_under(anchor.certificate, handed)
    needed = frozenset[Leniency]().union(*walk(path, now))
    if not needed <= anchor.allowed:
        allows = listed(anchor.allowed) or "nothing"
        raise Refused(Code.UNKNOWN_SIGNER, f"needs {listed(needed)}: the anchor allows {allows}")
    ders = tuple(one.public_bytes(Encoding.DER) for one in path[:-1])
    if not needed:
        # Nothing to excuse: then the library's own verifier has to agree.
        return Anchors((anchor.certificate,), own=False).verify(ders, now)
    return Chain(
        leaf=path[0],
        key=public_key(path[0]),
        name=common_name(path[0].subject) or "",
        unit=unit_of(path[0].issuer),
        thumbprint=thumbprint(ders[0]),
        not_before=max(one.not_valid_before_utc for one in path),
        not_after=min(one.not_valid_after_utc for one in path),
        leniencies=tuple(sorted(needed)),
    )


def path_under(anchor: x509.Certificate, handed: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the path from leaf to anchor; the anchor may be handed in, and ends the path where it stands.

    Raises:
        Refused: ``malformed``: nothing below the anchor, or too much, or one certificate twice.
    """
    below = list(takewhile(lambda one: one != anchor, handed))
    if not 1 <= len(below) <= MAX_X5C:
        raise Refused(Code.MALFORMED, f"{len(below)} certificates below the anchor: 1..{MAX_X5C} make a path")
    if len(set(below)) < len(below):
        raise Refused(Code.MALFORMED, "a certificate stands twice in its path")
    return [*below, anchor]


def walk(path: Sequence[x509.Certificate], now: datetime) -> tuple[frozenset[Leniency], ...]:
    """Check a path, leaf first and anchor last, and return what each certificate needs excused.

    Raises:
        Refused: for everything that has no excuse.
    """
    places = [Place.LEAF, *[Place.BETWEEN] * (len(path) - 2), Place.ANCHOR]
    needed = tuple(lacks(one, place, now) for one, place in zip(path, places, strict=True))
    if path[-1].issuer == path[-1].subject and _names_another(path[-1], path[-1]):
        raise Refused(Code.UNKNOWN_SIGNER, "an anchor that names another issuer than itself")
    for number, (below, above) in enumerate(pairwise(path)):
        certified(below, above)
        length = _path_length(above)
        if length is not None and number > length:
            raise Refused(Code.UNKNOWN_SIGNER, f"{number} authorities below one of path length {length}")
    return needed


def lacks(certificate: x509.Certificate, place: Place, now: datetime) -> frozenset[Leniency]:
    """Check one certificate by itself and return what it needs excused.

    Raises:
        Refused: ``bad-alg``, ``malformed``, or ``unknown-signer`` for what has no excuse.
    """
    if not isinstance(public_key(certificate), rsa.RSAPublicKey) and place is not Place.LEAF:
        raise Refused(Code.BAD_ALG, "an authority's key is not RSA")
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: valid {first:%Y-%m-%d} to {last:%Y-%m-%d}, not at {now:%Y-%m-%d}")
    serial = serial_of(certificate)
    if serial.bit_length() > MAX_SERIAL_BITS:
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: a serial number of more than 20 bytes")
    needed = _lacks_extensions(extensions_of(certificate), place)
    if Leniency.NO_EXTENSIONS in needed and place is Place.ANCHOR and certificate.issuer != certificate.subject:
        raise Refused(Code.UNKNOWN_SIGNER, "anchor: without extensions and not its own issuer, so perhaps a leaf")
    return frozenset(needed | ({Leniency.NEGATIVE_SERIAL} if serial <= 0 else set()))


def _lacks_extensions(said: x509.Extensions, place: Place) -> set[Leniency]:
    if not len(said) and place is not Place.BETWEEN:
        return {Leniency.NO_EXTENSIONS}
    for extension in said:
        if extension.critical and extension.oid not in UNDERSTOOD[place]:
            raise Refused(Code.UNKNOWN_SIGNER, f"{place}: critical extension {extension.oid.dotted_string}")
    if place is Place.LEAF:
        _is_no_authority(said)
    needed = set() if place is Place.LEAF else _lacks_authority(said, place)
    issuer = _one(said, x509.AuthorityKeyIdentifier)
    # An anchor need not say its issuer; whoever says it names the key, not a serial alone (RFC 5280 4.2.1.1).
    if place is not Place.ANCHOR if issuer is None else issuer.value.key_identifier is None:
        needed.add(Leniency.MISSING_KEY_IDENTIFIERS)
    return needed


def _is_no_authority(said: x509.Extensions) -> None:
    constraints, usage = _one(said, x509.BasicConstraints), _one(said, x509.KeyUsage)
    if constraints is not None and constraints.value.ca:
        raise Refused(Code.UNKNOWN_SIGNER, "an authority signs no messages")
    if usage is not None and usage.value.key_cert_sign:
        raise Refused(Code.UNKNOWN_SIGNER, "a leaf whose key may sign certificates")


def _lacks_authority(said: x509.Extensions, place: Place) -> set[Leniency]:
    constraints, usage = _one(said, x509.BasicConstraints), _one(said, x509.KeyUsage)
    if constraints is None or not constraints.value.ca:
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: no authority by its basicConstraints")
    if usage is not None and not usage.value.key_cert_sign:
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: an authority whose key may sign no certificates")
    purposes = _one(said, x509.ExtendedKeyUsage)
    if purposes is not None and not {CLIENT_AUTH, ANY_PURPOSE} & set(purposes.value):
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: an authority for other purposes")
    if _one(said, x509.NameConstraints) is not None:
        raise Refused(Code.UNKNOWN_SIGNER, f"{place}: name constraints, which are not judged here")
    lacking = {
        Leniency.LOOSE_CONSTRAINTS: not constraints.critical,
        Leniency.LOOSE_KEY_USAGE: usage is None,
        Leniency.MISSING_KEY_IDENTIFIERS: _one(said, x509.SubjectKeyIdentifier) is None,
    }
    return {leniency for leniency, needed in lacking.items() if needed}


def certified(below: x509.Certificate, above: x509.Certificate) -> None:
    """Check that ``above`` certified ``below``: names, signature, and what ``below`` says of its issuer's certificate.

    Raises:
        Refused: ``bad-alg``: signed with SHA-1, PSS or any other; ``unknown-signer``: by another.
    """
    if below.signature_algorithm_oid not in SIGNATURES:
        raise Refused(Code.BAD_ALG, f"a certificate signed with {below.signature_algorithm_oid.dotted_string}")
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        raise Refused(Code.UNKNOWN_SIGNER, "a certificate that the one above it did not sign") from None
    if _names_another(below, above):
        raise Refused(Code.UNKNOWN_SIGNER, "a certificate that names another issuer than the one above it")


def _names_another(below: x509.Certificate, above: x509.Certificate) -> bool:
    said = _one(extensions_of(below), x509.AuthorityKeyIdentifier)
    own = _one(extensions_of(above), x509.SubjectKeyIdentifier)
    if said is None:
        return False
    named = said.value
    return (
        (own is not None and named.key_identifier not in {None, own.value.digest})
        or named.authority_cert_serial_number not in {None, serial_of(above)}
        or named.authority_cert_issuer not in (None, [x509.DirectoryName(above.issuer)])
    )


def listed(leniencies: Iterable[Leniency]) -> str:
    """Return leniencies as one writes them in a command."""
    return ",".join(sorted(leniencies))


def _path_length(certificate: x509.Certificate) -> int | None:
    constraints = _one(extensions_of(certificate), x509.BasicConstraints)
    return None if constraints is None else constraints.value.path_length


def _one(said: x509.Extensions, kind: type[T]) -> x509.Extension[T] | None:
    try:
        return said.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
