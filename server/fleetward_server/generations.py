"""Who holds each office of the provider's PKI, and who held it: roots and issuing CAs, told apart by their keys.

``[keys]`` names the key in office; its certificate is the one in ``pki`` that is for that key. ``[keys.former]`` names
the keys of predecessors: they issue nothing more and sign their revocation lists until their certificates end. All
roots that are believed stand in one file. Source: S6; RFC 4210 section 4.4 (overlap of authorities' keys).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from fleetward_broker.profiles import Issuer
from fleetward_broker.signers import open_key
from fleetward_schemas.certificates import Anchors, key_thumbprint, public_key
from fleetward_schemas.jws import PrivateKey
from fleetward_server.config import Config

ROOT = "root"
AUTHORITIES = ("device-ca", "factory-ca", "service-ca")
ROOTS = "root.pem"
"""Every root that is believed, the oldest first."""
_KEY = ".key"


class AuthorityProblem(Exception):  # noqa: N818 - says what is wrong
    """An authority cannot issue; the message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One certificate of an office. stem: its file's name without suffix. uri: its key. former: it issues no more."""

    office: str
    stem: str
    certificate: x509.Certificate
    uri: str
    former: bool = False

    def has_ended(self, now: datetime) -> bool:
        """Say whether nothing that it issued can be valid any more."""
        return now > self.certificate.not_valid_after_utc


def roots(config: Config) -> tuple[x509.Certificate, ...]:
    """Return every root that is believed.

    Raises:
        AuthorityProblem: the file cannot be read.
    """
    path = config.pki / ROOTS
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise AuthorityProblem(f"{path}: no readable certificates: {error}") from None


def own_anchors(config: Config) -> Anchors:
    """Return the anchors of the provider's own PKI: one root, or two while one follows the other.

    Raises: as ``roots``.
    """
    return Anchors(roots(config))


def open_root(config: Config) -> Issuer:
    """Open the root in office.

    Raises:
        KeyUnavailable: its key cannot be opened. AuthorityProblem: no certificate of it is there.
    """
    key = open_key(config.keys.root, config.folder)
    for certificate in roots(config):
        if fits(certificate, key):
            return Issuer(certificate, key)
    raise AuthorityProblem(f"{config.pki / ROOTS}: no certificate is for the key {config.keys.root}")


def open_issuer(config: Config, office: str) -> Issuer:
    """Open who holds one of ``AUTHORITIES``.

    Raises:
        KeyUnavailable: its key cannot be opened. AuthorityProblem: its certificate cannot be read or is another's.
    """
    issuer, _ = in_office(config, office)
    return issuer


def in_office(config: Config, office: str) -> tuple[Issuer, Generation]:
    """Open who holds one of ``AUTHORITIES``, and say which certificate that is. Raises: as ``open_issuer``."""
    uri = config.keys.by_name()[office]
    found = dict(_certificates(config, office))
    if not found:
        raise AuthorityProblem(f"{config.pki / office}.pem: not there")
    key = open_key(uri, config.folder)
    for stem, certificate in found.items():
        if fits(certificate, key):
            return Issuer(certificate, key), Generation(office, stem, certificate, uri)
    names = ", ".join(f"{stem}.pem" for stem in found)
    raise AuthorityProblem(f"{config.pki}/{names}: the certificate is for another key than {uri}")


def holder(config: Config, office: str) -> Generation:
    """Say who holds one of ``AUTHORITIES``; its key is asked only where the certificates leave it open.

    Raises: as ``open_issuer``.
    """
    found = [(stem, one) for stem, one in _certificates(config, office) if stem not in config.keys.former]
    if len(found) != 1:
        return in_office(config, office)[1]
    stem, certificate = found[0]
    return Generation(office, stem, certificate, config.keys.by_name()[office])


def former(config: Config) -> tuple[Generation, ...]:
    """Return the predecessors of the issuing CAs whose keys the configuration names, the ended ones too.

    Raises:
        AuthorityProblem: a certificate cannot be read.
    """
    return tuple(
        Generation(office_of(stem), stem, _read(config.pki / f"{stem}.pem"), uri, former=True)
        for stem, uri in config.keys.former.items()
        if office_of(stem) in AUTHORITIES
    )


def open_former(config: Config, one: Generation) -> Issuer:
    """Open a predecessor, to sign its revocation list.

    Raises:
        KeyUnavailable: its key cannot be opened. AuthorityProblem: it is for another certificate.
    """
    key = open_key(one.uri, config.folder)
    if not fits(one.certificate, key):
        raise AuthorityProblem(f"{config.pki / one.stem}.pem: the certificate is for another key than {one.uri}")
    return Issuer(one.certificate, key)


def office_of(stem: str) -> str:
    """Return the office that the name of a certificate's file belongs to: ``device-ca-2`` was or is a ``device-ca``."""
    name, _, number = stem.rpartition("-")
    return name if number.isdigit() and number.isascii() else stem


def number_of(stem: str) -> int:
    """Return the how-manieth holder of its office this is, from 1."""
    return 1 if office_of(stem) == stem else int(stem.rpartition("-")[2])


def stem_of(office: str, number: int) -> str:
    """Return the name of the files of an office's holder."""
    return office if number == 1 else f"{office}-{number}"


def all_generations(config: Config) -> tuple[Generation, ...]:
    """Return every certificate of the issuing CAs, in office and former, without asking for a key.

    Raises:
        AuthorityProblem: one cannot be read.
    """
    return tuple(
        Generation(office, stem, certificate, config.keys.former.get(stem, uri), former=stem in config.keys.former)
        for office, uri in config.keys.by_name().items()
        if office in AUTHORITIES
        for stem, certificate in _certificates(config, office)
    )


def _certificates(config: Config, office: str) -> Iterator[tuple[str, x509.Certificate]]:
    for path in sorted(config.pki.glob(f"{office}*.pem")):
        if not path.stem.endswith(_KEY) and office_of(path.stem) == office:
            yield path.stem, _read(path)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AuthorityProblem(f"{path}: not a readable certificate: {error}") from None


def fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Say whether a certificate is for a key."""
    return key_thumbprint(public_key(certificate)) == key_thumbprint(key.public_key())
