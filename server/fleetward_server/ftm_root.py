"""An FTM provider's root as an operator hands it in: one CA certificate, valid now, with a key we approve.

What it lacks itself has to be allowed with it, so that nobody trusts a root whose chains are then all refused.
Source: protocol section 1 ("anchored by the provider's operator"); RFC 5280 section 4.2.1.9.
"""

from dataclasses import replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import (
    extensions_of,
    public_key,
    read_certificate,
    read_pem_certificates,
    thumbprint,
)
from fleetward_schemas.errors import Refused
from fleetward_schemas.foreign import MEANINGS, Leniency, Place, lacks
from fleetward_server.problem import Kind, OperatorProblem, nearest
from fleetward_server.state import FtmRoot

NAME_CHARS = 64
PREFIX_CHARS = 4


def read_root(pem: bytes, name: str, now: datetime, allowed: tuple[Leniency, ...] = ()) -> FtmRoot:
    """Read one root.

    Raises:
        OperatorProblem: ``invalid``: not one certificate, a leaf, not valid now, of a key that is not approved, or
            lacking what is not allowed.
    """
    if not (0 < len(name) <= NAME_CHARS and name.isascii() and name.isprintable()):
        raise OperatorProblem(Kind.INVALID, f"a root's name is 1 to {NAME_CHARS} printable ASCII characters")
    certificate = _certificate(pem)
    if _is_leaf(certificate):
        raise OperatorProblem(Kind.INVALID, f"{_subject(certificate)}: a leaf; hand in the FTM provider's CA")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise OperatorProblem(
            Kind.INVALID,
            f"{_subject(certificate)}: valid {certificate.not_valid_before_utc:%Y-%m-%d}"
            f" to {certificate.not_valid_after_utc:%Y-%m-%d}, not now",
        )
    _excused(certificate, now, allowed)
    der = certificate.public_bytes(Encoding.DER)
    return FtmRoot(thumbprint(der), name, der, trusted=True, leniencies=tuple(sorted(allowed)))


def read_leniencies(text: str) -> tuple[Leniency, ...]:
    """Read words with commas between them; none for nothing.

    Raises:
        OperatorProblem: ``invalid``: a word that is no leniency.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in list(Leniency):
            raise OperatorProblem(Kind.INVALID, f"--allow {word!r}: {nearest(word, Leniency)}")
    return tuple(sorted(set(map(Leniency, words))))


def distrusted(roots: tuple[FtmRoot, ...], text: str) -> FtmRoot:
    """Return the one trusted root that ``text`` means (name, thumbprint or its beginning), trusted no more.

    Raises:
        OperatorProblem: ``not-found``, or ``invalid`` when it means several.
    """
    trusted = [root for root in roots if root.trusted]
    exact = [root for root in trusted if text in {root.name, root.thumbprint}]
    begun = [root for root in trusted if len(text) >= PREFIX_CHARS and root.thumbprint.startswith(text)]
    match exact or begun:
        case [root]:
            return replace(root, trusted=False)
        case []:
            raise OperatorProblem(Kind.NOT_FOUND, f"no trusted FTM root {text!r}")
        case several:
            names = ", ".join(root.thumbprint for root in several)
            raise OperatorProblem(Kind.INVALID, f"{text!r} names more than one root: {names}")


def facts(root: FtmRoot) -> dict[str, object]:
    """Return what people compare: subject, thumbprint, end."""
    certificate = read_certificate(root.der)
    return {
        "name": root.name,
        "subject": _subject(certificate),
        "thumbprint": root.thumbprint,
        "not_after": certificate.not_valid_after_utc,
        "trusted": root.trusted,
        "allows": list(root.leniencies),
    }


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        (certificate,) = read_pem_certificates(pem)
    except (Refused, ValueError):
        raise OperatorProblem(Kind.INVALID, "expected one certificate in PEM") from None
    try:
        public_key(certificate)
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"{_subject(certificate)}: {refusal.detail}") from None
    return certificate


def _is_leaf(certificate: x509.Certificate) -> bool:
    try:
        return not extensions_of(certificate).get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, Refused):
        return False


def _excused(certificate: x509.Certificate, now: datetime, allowed: tuple[Leniency, ...]) -> None:
    try:
        missing = lacks(certificate, Place.ANCHOR, now) - set(allowed)
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"{_subject(certificate)}: {refusal.detail}") from None
    if missing:
        because = "; ".join(f"{one} ({MEANINGS[one]})" for one in sorted(missing))
        raise OperatorProblem(Kind.INVALID, f"{_subject(certificate)}: has to be allowed (--allow): {because}")


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
