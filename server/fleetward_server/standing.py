"""Which certificates count, when each ends, and on what it stands.

No key is asked for: a list must not need a token. Source: S6; protocol section 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import is_signed_by, read_certificate, read_pem_certificates, serial_of, thumbprint
from fleetward_schemas.errors import Refused
from fleetward_server.authority import subject_of
from fleetward_server.config import Config
from fleetward_server.generations import ROOT, AuthorityProblem, all_generations, own_anchors, roots
from fleetward_server.state import Certificate, FtmRoot, Use

LINES = ("broker", "server")
"""The two ends of our own line: what the broker shows to devices, and what the server shows to the broker."""
LONGEST_CHAIN = 8


class Role(StrEnum):
    """What a certificate is for."""

    ROOT = "root"
    AUTHORITY = "authority"
    LINE = "line"
    FTM_ROOT = "ftm-root"
    MOSIP = "mosip"
    DEVICE = "device"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True)
class Standing:
    """One certificate that counts. name: of its file without suffix, the operator's word for it, or the device's id.

    state: ``believed``, ``in-office``, ``former``, or what the register says of it. thumbprint: SHA-256, base64url.
    """

    role: Role
    name: str
    state: str
    not_before: datetime
    not_after: datetime
    subject: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain. signed: by the next one, the last by itself. in_time: valid at the moment asked."""

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    thumbprint: str
    signed: bool
    in_time: bool
    pem: str


@dataclass(frozen=True, slots=True)
class ChainTold:
    """A chain, leaf first. flaw: why it does not hold; empty when it does."""

    links: tuple[Link, ...]
    flaw: str


def own_certificates(config: Config, ftm_roots: Sequence[FtmRoot]) -> tuple[Standing, ...]:
    """Return what the provider itself stands on: roots, issuing CAs, both ends of the line, what others made.

    Raises:
        AuthorityProblem: one cannot be read.
    """
    return (
        *(_standing(Role.ROOT, ROOT, "believed", one) for one in roots(config)),
        *(
            _standing(Role.AUTHORITY, one.stem, "former" if one.former else "in-office", one.certificate)
            for one in all_generations(config)
        ),
        *(_standing(Role.LINE, name, "in-office", read_line(config, name)[0]) for name in LINES),
        *certificates_of_others(config, ftm_roots),
    )


def certificates_of_others(config: Config, ftm_roots: Sequence[FtmRoot]) -> tuple[Standing, ...]:
    """Return what others made and the provider relies on: FTM makers' roots, and what stands between it and MOSIP.

    Raises:
        AuthorityProblem: one cannot be read.
    """
    makers = [(one.name, read_certificate(one.der)) for one in ftm_roots if one.trusted]
    states = {"certificate": "believed", "former_certificate": "former", "anchors": "believed"}
    files = {key: getattr(config.mosip, key) for key in states} if config.mosip.on else {}
    mosip = [(key, one) for key, path in files.items() if path for one in _read_pem(config.folder / path)]
    return (
        *(_standing(Role.FTM_ROOT, name, "believed", one) for name, one in makers),
        *(_standing(Role.MOSIP, f"mosip.{key}", states[key], one) for key, one in mosip),
    )


def _read_pem(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return read_pem_certificates(path.read_bytes())
    except OSError as error:
        raise AuthorityProblem(f"{path}: {error.strerror}") from None
    except Refused as refusal:
        raise AuthorityProblem(f"{path}: {refusal.detail}") from None


def device_certificate(row: Certificate) -> Standing:
    """Return a certificate of a device."""
    role = Role.DEVICE if row.use is Use.DEVICE else Role.TRANSPORT
    subject = f"CN={subject_of(row.use, row.device_id)}"
    return Standing(role, row.device_id, row.state, row.not_before, row.not_after, subject, row.thumbprint)


def read_line(config: Config, name: str) -> list[x509.Certificate]:
    """Return the certificate of one end of the line, and what stands with it in its file.

    Raises:
        AuthorityProblem: it cannot be read.
    """
    path = config.pki / f"{name}.pem"
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AuthorityProblem(f"{path}: not a readable certificate: {error}") from None


def _standing(role: Role, name: str, state: str, certificate: x509.Certificate) -> Standing:
    return Standing(
        role,
        name,
        state,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.subject.rfc4514_string(),
        _thumbprint(certificate),
    )


def own_chain(config: Config, name: str, now: datetime) -> ChainTold | None:
    """Return the chain of a root, an issuing CA or an end of the line; None when it has no such name.

    Raises:
        AuthorityProblem: a certificate cannot be read.
    """
    if name in LINES:
        leaf, *others = read_line(config, name)
        return _judged_leaf(config, leaf, others, now)
    if name == ROOT:
        return _judged(config, [roots(config)[-1]], now)
    named = [one.certificate for one in all_generations(config) if one.stem == name]
    return _judged(config, _path(config, named[0], []), now) if named else None


def device_chain(config: Config, row: Certificate, now: datetime) -> ChainTold:
    """Return the chain of a device's certificate. Raises: as ``own_chain``."""
    return _judged_leaf(config, read_certificate(row.der), [read_certificate(row.authority)], now)


def _judged_leaf(config: Config, leaf: x509.Certificate, others: list[x509.Certificate], now: datetime) -> ChainTold:
    told = _judged(config, _path(config, leaf, others), now)
    try:
        own_anchors(config).verify(tuple(map(_der, (leaf, *others))), now)
    except Refused as refusal:
        return ChainTold(told.links, told.flaw or refusal.detail)
    return told


def _path(config: Config, leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Go from issuer to issuer, as far as one is known."""
    known = [*others, *(one.certificate for one in all_generations(config)), *roots(config)]
    path = [leaf]
    while path[-1].issuer != path[-1].subject and len(path) < LONGEST_CHAIN:
        above = [one for one in known if is_signed_by(path[-1], one)]
        if not above:
            break
        path.append(above[0])
    return path


def _judged(config: Config, path: list[x509.Certificate], now: datetime) -> ChainTold:
    above = [*path[1:], path[-1]]
    links = tuple(_link(one, issuer, now) for one, issuer in zip(path, above, strict=True))
    late = [link.subject for link in links if not link.in_time]
    flaw = f"not valid now: {late[0]}" if late else ""
    if path[-1] not in roots(config):
        flaw = f"{links[-1].issuer}: no such authority or root here"
    return ChainTold(links, flaw)


def _link(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Link:
    return Link(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        f"{serial_of(certificate):x}",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        _thumbprint(certificate),
        is_signed_by(certificate, issuer),
        certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc,
        certificate.public_bytes(Encoding.PEM).decode(),
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _thumbprint(certificate: x509.Certificate) -> str:
    return thumbprint(_der(certificate))
