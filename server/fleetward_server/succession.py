"""Succession: root, issuing CA or line gets another key, and nobody who believed the former is locked out.

A successor is made, certified and known to the revocation lists before the one rewrite of ``fleetward.toml`` that puts
it in office, so that a crash leaves either of the two there, whole. A predecessor issues nothing more; its certificate
goes on to count until it ends, and its key signs its revocation list until then. A root's successor is believed beside
it; it is for the operator to bring the file of roots to every device before anything is issued under the new one.
Source: S6; RFC 4210 section 4.4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import file_of, write_durably
from fleetward_schemas.certificates import Unit, thumbprint
from fleetward_schemas.jws import MIN_RSA_BITS
from fleetward_server import amend
from fleetward_server.authority import BACKDATE
from fleetward_server.ca_keys import ROOT_BITS, Keys, beside, keys_of, name_in
from fleetward_server.config import Config
from fleetward_server.generations import (
    AUTHORITIES,
    ROOT,
    ROOTS,
    AuthorityProblem,
    holder,
    number_of,
    office_of,
    open_root,
    roots,
    stem_of,
)
from fleetward_server.lines import alone, mend, renew_line
from fleetward_server.standing import LINES, read_line

OFFICES = (ROOT, *AUTHORITIES, *LINES)
ROTATED = "authority-rotated"
"""What the audit calls it."""
UNHEEDED = "factory-ca"
"""Devices judge nothing that is issued under it."""

Announce = Callable[[Config], None]
"""Let the broker know the authorities of a configuration that is about to be in force."""


@dataclass(frozen=True, slots=True)
class Successor:
    """Who holds an office now. key: its URI, empty for a line, whose key is the file beside the certificate."""

    office: str
    stem: str
    key: str
    subject: str
    thumbprint: str
    not_after: datetime


def succeed(config: Config, office: str, now: datetime, announce: Announce, *, to: str = "") -> Successor:
    """Give an office another key and put that in office. to: the token to make it in; where the former is if left out.

    Raises:
        AuthorityProblem, KeyUnavailable, ConfigProblem, OSError: the former one is still in office.
    """
    with alone(config):
        mend(config)
        if office in LINES:
            return _told(office, office, "", renew_line(config, office, now))
        return _root(config, now, to) if office == ROOT else _issuing(config, office, now, announce, to)


def follows_other_root(config: Config, office: str) -> bool:
    """Say whether a successor would stand under another root than the holder does, which devices must believe by then.

    Raises: as ``succeed``.
    """
    if office in AUTHORITIES and office != UNHEEDED:
        return _root_of(config, holder(config, office).certificate) != open_root(config).certificate
    if office == "broker":
        issuer = holder(config, "service-ca").certificate
        return _root_of(config, issuer) != _root_of(config, _issuer_of_line(config, office))
    return False


def forget_root(config: Config) -> tuple[x509.Certificate, ...]:
    """Believe no root but the one in office; return those that were believed beside it.

    Raises:
        AuthorityProblem: something at work stands under another, or there is no other; nothing was changed.
        KeyUnavailable, ConfigProblem, OSError.
    """
    with alone(config):
        root = open_root(config).certificate
        others = tuple(one for one in roots(config) if one != root)
        left = {stem: uri for stem, uri in config.keys.former.items() if office_of(stem) != ROOT}
        if not others and len(left) == len(config.keys.former):
            raise AuthorityProblem(f"{config.pki / ROOTS}: holds the root in office alone")
        at_work = {office: holder(config, office).certificate for office in AUTHORITIES}
        for name, issuer in (at_work | {line: _issuer_of_line(config, line) for line in LINES}).items():
            if not _is_under(issuer, root):
                raise AuthorityProblem(f"{name} stands under another root; run: fleetward authority rotate {name}")
        _, raw = amend.with_keys(config, {}, left)
        write_durably(config.pki / ROOTS, root.public_bytes(Encoding.PEM))
        amend.write(config.folder, raw)
        return others


def stands_under(config: Config, issuer: x509.Certificate) -> bool:
    """Say whether an authority stands under the root in office. Raises: as ``succeed``."""
    return _is_under(issuer, open_root(config).certificate)


def _root(config: Config, now: datetime, to: str) -> Successor:
    uri = config.keys.root
    before = name_in(uri) if office_of(name_in(uri)) == ROOT else ROOT
    _discard(config, ROOT, set())
    keys = _place(config, uri, to)
    stem = _free(config, keys, before)
    _, raw = amend.with_keys(config, {ROOT: keys.uri(stem)}, {**config.keys.former, before: uri})
    name = config.provider.name
    key = keys.make(stem, ROOT_BITS)
    made = profiles.self_signed(Subject(f"{name} root {number_of(stem)}", name), key, now - BACKDATE)
    both = (config.pki / ROOTS).read_bytes() + made.public_bytes(Encoding.PEM)
    write_durably(config.pki / ROOTS, both)
    amend.write(config.folder, raw)
    return _told(ROOT, stem, keys.uri(stem), made)


def _issuing(config: Config, office: str, now: datetime, announce: Announce, to: str) -> Successor:
    held, root = holder(config, office), open_root(config)
    _discard(config, office, {held.stem, *config.keys.former})
    keys = _place(config, held.uri, to)
    stem = _free(config, keys, held.stem)
    own = office.replace("-", "_")
    after, raw = amend.with_keys(config, {own: keys.uri(stem)}, {**config.keys.former, held.stem: held.uri})
    name, unit = config.provider.name, Unit(office.removesuffix("-ca"))
    # A name of its own: revocation lists are found by their authority's name.
    subject = Subject(f"{name} {unit} CA {number_of(stem)}", name, unit)
    start = max(now - BACKDATE, root.certificate.not_valid_before_utc)
    key = keys.make(stem, MIN_RSA_BITS)
    made = profiles.issue(profiles.ISSUING, subject, key.public_key(), root, start=start)
    write_durably(config.pki / f"{stem}.pem", made.public_bytes(Encoding.PEM))
    # A broker refuses whom an authority without a list certified, so the list is there before the authority is.
    announce(after)
    amend.write(config.folder, raw)
    return _told(office, stem, keys.uri(stem), made)


def _place(config: Config, uri: str, to: str) -> Keys:
    return keys_of(to, config.pki) if to else beside(uri, config.folder)


def _free(config: Config, keys: Keys, stem: str) -> str:
    """Return the next name after ``stem`` that no file, no key and no predecessor has."""
    office, number = office_of(stem), number_of(stem) + 1
    while (config.pki / f"{stem_of(office, number)}.pem").exists() or _is_named(config, keys, stem_of(office, number)):
        number += 1
    return stem_of(office, number)


def _is_named(config: Config, keys: Keys, stem: str) -> bool:
    return stem in config.keys.former or keys.holds(stem)


def _discard(config: Config, office: str, known: set[str]) -> None:
    """Remove what a crash left in ``pki``: keys and certificates that never came into office."""
    uris = (*config.keys.by_name().values(), *config.keys.former.values())
    named = {file_of(uri, config.folder).resolve() for uri in uris if uri.startswith("file:")}
    for path in sorted(config.pki.glob(f"{office}-*.pem")):
        stem = path.name.removesuffix(".pem").removesuffix(".key")
        if office_of(stem) == office and stem not in known and path.resolve() not in named:
            path.unlink()


def _root_of(config: Config, issued: x509.Certificate) -> x509.Certificate | None:
    return next((root for root in roots(config) if _is_under(issued, root)), None)


def _is_under(issued: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _issuer_of_line(config: Config, name: str) -> x509.Certificate:
    """Return the authority that stands behind the certificate in a line's file."""
    found = read_line(config, name)
    if len(found) < 2:
        raise AuthorityProblem(f"{config.pki / name}.pem: needs the certificate and its authority's")
    return found[1]


def _told(office: str, stem: str, key: str, made: x509.Certificate) -> Successor:
    der = made.public_bytes(Encoding.DER)
    return Successor(office, stem, key, made.subject.rfc4514_string(), thumbprint(der), made.not_valid_after_utc)
