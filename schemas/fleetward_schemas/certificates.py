"""What a certificate must be before its key is believed: role, path, strength, validity, all at the caller's time.

Path building is the cryptography library's; what it leaves out is checked here: the leaf key's strength, the role
(our issuing CA's OU with the leaf's CN), our own key purposes, and validity of every certificate at ``now``.
Source: protocol section 1; RFC 5280 section 6.
"""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.jws import PublicKey, approved
from fleetward_schemas.strict import b64url

OWN_PURPOSES = "1.2.840.113556.1.8000.2554.9610.58189.25782.17513.34799.1257864.11394705"
"""A UUID in parts of 16 and 24 bits: readers of certificates that hold an arc in 31 bits read no arc of 128."""
SERVER_SIGNING = ObjectIdentifier(f"{OWN_PURPOSES}.1")
DEVICE_SIGNING = ObjectIdentifier(f"{OWN_PURPOSES}.2")
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
SERVER_SIGNER = "sign-server"
MAX_X5C = 3


class Unit(StrEnum):
    """The issuing CAs, told apart by their subject's OU."""

    DEVICE = "device"
    FACTORY = "factory"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified path, leaf first, its anchor left out.

    thumbprint: SHA-256 of the leaf. unit: OU of the CA directly above the leaf, None outside our own PKI.
    not_before, not_after: the moments between which every certificate of the path is valid.
    leniencies: the words of what a foreign path lacks and its anchor's operator allowed (foreign.py).
    """

    leaf: x509.Certificate
    key: PublicKey
    name: str
    unit: str | None
    thumbprint: str
    not_before: datetime
    not_after: datetime
    leniencies: tuple[str, ...] = ()

    def valid_at(self, moment: datetime) -> bool:
        """Say whether ``moment`` lies inside the validity of every certificate of the path."""
        return self.not_before <= moment <= self.not_after


def thumbprint(der: bytes) -> str:
    """Return the SHA-256 thumbprint in base64url: ``x5t#S256`` (RFC 7515 section 4.1.8)."""
    return b64url(hashlib.sha256(der).digest())


def spki(key: PublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_thumbprint(key: PublicKey) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo in base64url, the name of a key."""
    return thumbprint(spki(key))


@lru_cache(maxsize=256)
def read_certificate(der: bytes) -> x509.Certificate:
    """Parse one certificate and its names.

    Raises:
        Refused: ``malformed``.
    """
    try:
        with _judged_elsewhere():
            certificate = x509.load_der_x509_certificate(der)
            # The library reads names when they are asked for, and would fail there: so they are asked for here.
            common_name(certificate.subject), unit_of(certificate.issuer)
    except (ValueError, TypeError, x509.InvalidVersion):
        raise Refused(Code.MALFORMED, "not an X.509 certificate") from None
    return certificate


def read_pem_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Parse all certificates of a PEM text, in its order.

    Raises:
        Refused: ``malformed``.
    """
    try:
        with _judged_elsewhere():
            found = x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError, x509.InvalidVersion):
        raise Refused(Code.MALFORMED, "no certificates in PEM") from None
    return tuple(read_certificate(one.public_bytes(serialization.Encoding.DER)) for one in found)


def serial_of(certificate: x509.Certificate) -> int:
    """Return the serial number, which in chains from elsewhere may be negative."""
    with _judged_elsewhere():
        return certificate.serial_number


def extensions_of(certificate: x509.Certificate) -> x509.Extensions:
    """Return the extensions, which the library reads when they are asked for.

    Raises:
        Refused: ``malformed``.
    """
    try:
        with _judged_elsewhere():
            return certificate.extensions
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused(Code.MALFORMED, "extensions that cannot be read") from None


@contextmanager
def _judged_elsewhere() -> Iterator[None]:
    """Silence two warnings: of serials that are not positive, which the paths judge, and of names that are too long."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)
        warnings.filterwarnings("ignore", "Attribute's length", UserWarning)
        yield


def public_key(certificate: x509.Certificate) -> PublicKey:
    """Return the certificate's key.

    Raises:
        Refused: ``bad-alg``: a key that is not approved; ``malformed``: a key that cannot be read.
    """
    try:
        key = certificate.public_key()
    except ValueError:
        raise Refused(Code.MALFORMED, "the certificate's key cannot be read") from None
    except Exception as error:  # noqa: BLE001 - the library's UnsupportedAlgorithm and its kin mean one thing here
        raise Refused(Code.BAD_ALG, f"{type(error).__name__}: not an approved key") from None
    return approved(key)


def common_name(name: x509.Name) -> str | None:
    """Return the one CN of a name, None when there is none or more than one."""
    return _single(name, NameOID.COMMON_NAME)


def unit_of(name: x509.Name) -> str | None:
    """Return the one OU of a name, None when there is none or more than one."""
    return _single(name, NameOID.ORGANIZATIONAL_UNIT_NAME)


def _single(name: x509.Name, oid: ObjectIdentifier) -> str | None:
    values = name.get_attributes_for_oid(oid)
    return str(values[0].value) if len(values) == 1 else None


def has_purpose(certificate: x509.Certificate, purpose: ObjectIdentifier) -> bool:
    """Say whether the certificate's extended key usage names ``purpose``."""
    try:
        return purpose in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


class Anchors:
    """Trusted roots and the check of a path to them; an immutable value, made anew when trust changes."""

    def __init__(self, roots: tuple[x509.Certificate, ...], *, own: bool = True) -> None:
        """Hold ``roots``; ``own`` asks of leaves the profile that our own CAs issue (AKI, SKI, one SAN URI, EKU)."""
        self.roots = roots
        self._own = own
        self._store = verification.Store(list(roots)) if roots else None

    def verify(self, ders: tuple[bytes, ...], now: datetime) -> Chain:
        """Verify a path of 1..3 certificates, leaf first and root left out, at ``now``.

        Raises:
            Refused: ``malformed``, ``bad-alg``, or ``unknown-signer`` when no path leads to an anchor at ``now``.
        """
        if not 1 <= len(ders) <= MAX_X5C:
            raise Refused(Code.MALFORMED, f"{len(ders)} certificates: 1..{MAX_X5C} make a path")
        certificates = [read_certificate(der) for der in ders]
        leaf = certificates[0]
        key = public_key(leaf)
        for authority in certificates[1:]:
            public_key(authority)
        path = self._path(leaf, certificates[1:], now)
        issuer = path[1].subject if len(path) > 1 else leaf.issuer
        return Chain(
            leaf=leaf,
            key=key,
            name=common_name(leaf.subject) or "",
            unit=unit_of(issuer),
            thumbprint=thumbprint(ders[0]),
            not_before=max(c.not_valid_before_utc for c in path),
            not_after=min(c.not_valid_after_utc for c in path),
        )

    def issued(self, authority: bytes) -> bool:
        """Say whether an anchor issued ``authority``, DER; its validity is judged where a path is.

        Raises:
            Refused: ``malformed``: no certificate.
        """
        read = read_certificate(authority)
        return any(is_signed_by(read, root) for root in self.roots)

    def _path(
        self, leaf: x509.Certificate, authorities: list[x509.Certificate], now: datetime
    ) -> list[x509.Certificate]:
        if self._store is None:
            raise Refused(Code.UNKNOWN_SIGNER, "no trust anchor is configured")
        builder = verification.PolicyBuilder().store(self._store).time(now.replace(tzinfo=None))
        builder = builder.extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=_own_leaf() if self._own else _any_leaf(),
        )
        try:
            return list(builder.build_client_verifier().verify(leaf, authorities).chain)
        except verification.VerificationError as error:
            raise Refused(Code.UNKNOWN_SIGNER, f"no path to an anchor: {error}") from None


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Say whether a certificate was issued by another."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _own_leaf() -> verification.ExtensionPolicy:
    """Ask of a leaf what our profiles put there; purposes are judged by the caller, who knows what for."""
    present = verification.Criticality
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, present.CRITICAL, _no_authority)
        .require_present(x509.KeyUsage, present.CRITICAL, _signs_only)
        .require_present(x509.AuthorityKeyIdentifier, present.NON_CRITICAL, None)
        .require_present(x509.SubjectKeyIdentifier, present.NON_CRITICAL, None)
        .require_present(x509.ExtendedKeyUsage, present.AGNOSTIC, None)
        .require_present(x509.SubjectAlternativeName, present.AGNOSTIC, None)
    )


def _any_leaf() -> verification.ExtensionPolicy:
    """Ask of a foreign leaf (an FTM chip) only that it is no authority; the rest is asked in foreign.py."""
    return verification.ExtensionPolicy.permit_all().may_be_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, _no_authority_if_said
    )


def _no_authority(_: object, __: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if extension.ca:
        raise ValueError("an authority signs no messages")


def _no_authority_if_said(_: object, __: x509.Certificate, extension: x509.BasicConstraints | None) -> None:
    if extension is not None and extension.ca:
        raise ValueError("an authority signs no messages")


def _signs_only(_: object, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign:
        raise ValueError("a leaf signs, and signs no certificates")


def server_signer(chain: Chain) -> Chain:
    """Return ``chain`` when it is the server's message-signing certificate, directly under our service CA.

    Raises:
        Refused: ``wrong-server``. Clause C6.
    """
    if (chain.name, chain.unit) != (SERVER_SIGNER, Unit.SERVICE) or not has_purpose(chain.leaf, SERVER_SIGNING):
        raise Refused(Code.WRONG_SERVER, f"signed by {chain.name!r} under {chain.unit!r}")
    return chain
