"""Who calls: the principal behind a TLS connection, from its verified certificate and nothing else.

Rule: the CN names the principal, the issuing CA's OU must agree with the role that name spells, the certificate must be
meant for TLS clients, valid now and not revoked. Source: protocol sections 1 and 2; C3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetward_broker.tls import read_crls
from fleetward_schemas.certificates import CLIENT_AUTH, Unit, common_name, has_purpose, read_certificate, unit_of
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.topics import Principal, Role, principal_of

UNITS = {Role.DEVICE: Unit.DEVICE, Role.FACTORY: Unit.FACTORY, Role.SERVER: Unit.SERVICE, Role.VIEW: Unit.SERVICE}

Serial = tuple[bytes, int]
"""One certificate by its issuer's DER name and its serial number."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal and the certificate it came with. until: its notAfter."""

    principal: Principal
    serial: Serial
    until: datetime


@dataclass(frozen=True, slots=True)
class Revocations:
    """The certificates that no longer count."""

    serials: frozenset[Serial] = frozenset()


def identify(der: bytes, revoked: Revocations, now: datetime) -> Caller:
    """Return who the certificate of a finished handshake stands for.

    Raises:
        Refused: ``malformed``; ``not-allowed``: no principal of ours, another CA's to name, or not for TLS clients;
            ``unknown-signer``: revoked or not valid now.
    """
    leaf = read_certificate(der)
    principal = principal_of(common_name(leaf.subject) or "")
    if principal is None:
        raise Refused(Code.NOT_ALLOWED, "the certificate names no principal")
    if unit_of(leaf.issuer) != UNITS[principal.role]:
        raise Refused(
            Code.NOT_ALLOWED, f"{principal.name} under {unit_of(leaf.issuer)!r}: {UNITS[principal.role]} names it"
        )
    if not has_purpose(leaf, CLIENT_AUTH):
        raise Refused(Code.NOT_ALLOWED, f"{principal.name}: the certificate is not for TLS clients")
    serial = (leaf.issuer.public_bytes(), leaf.serial_number)
    # OpenSSL asked both at the handshake; asked again, since a handshake may have begun before the list changed.
    if serial in revoked.serials:
        raise Refused(Code.UNKNOWN_SIGNER, f"{principal.name}: revoked")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise Refused(Code.UNKNOWN_SIGNER, f"{principal.name}: not valid now")
    return Caller(principal, serial, leaf.not_valid_after_utc)


def read_revocations(crls: Sequence[Path]) -> Revocations:
    """Read the serials of every CRL of these files.

    Raises:
        CredentialsUnusable: naming the file.
    """
    serials: set[Serial] = set()
    for listed in (one for path in crls for one in read_crls(path)):
        issuer = listed.issuer.public_bytes()
        serials.update((issuer, entry.serial_number) for entry in listed)
    return Revocations(frozenset(serials))
