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
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import file_of, open_key
from fleetward_schemas.certificates import Unit, is_signed_by, thumbprint
from fleetward_schemas.jws import MIN_RSA_BITS
from fleetward_server import amend
from fleetward_server.authority import BACKDATE
from fleetward_server.ca_keys import ROOT_BITS, beside, keys_of, name_in
from fleetward_server.ceremony_use import successor
from fleetward_server.config import Config
from fleetward_server.generations import (
    AUTHORITIES,
    ROOT,
    ROOTS,
    AuthorityProblem,
    all_generations,
    fits,
    holder,
    number_of,
    office_of,
    open_root,
    roots,
    stem_of,
)
from fleetward_server.lines import changing, mend, renew_line
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


@dataclass(frozen=True, slots=True)
class Making:
    """Where a successor comes from. to: the token to make it in; ceremony: folder of the one that made it already.

    Neither: it is made where its predecessor is.
    """

    to: str = ""
    ceremony: Path | None = None


BESIDE = Making()


def succeed(config: Config, office: str, now: datetime, announce: Announce, making: Making = BESIDE) -> Successor:
    """Give an office another key and put that in office.

    Raises:
        AuthorityProblem, KeyUnavailable, ConfigProblem, OSError: the former one is still in office. Busy: another
            process changes keys, or has since ``config`` was read.
    """
    with changing(config):
        mend(config)
        if office in LINES:
            return _told(office, office, "", renew_line(config, office, now))
        _discard(config, office)
        planned = _taken(config, office, making.ceremony) if making.ceremony else _planned(config, office, now, making)
        return _believe(config, planned) if office == ROOT else _install(config, office, planned, announce)


def follows_other_root(config: Config, office: str, making: Making = BESIDE) -> bool:
    """Say whether a successor would stand under another root than the holder does, which devices must believe by then.

    Raises: as ``succeed``.
    """
    if office in AUTHORITIES and office != UNHEEDED:
        made = None if making.ceremony is None else successor(making.ceremony, office, config.provider.name).certificate
        above = open_root(config).certificate if made is None else _root_of(config, made)
        # What no root of ours issued is refused by all means.
        return above is not None and _root_of(config, holder(config, office).certificate) != above
    if office == "broker":
        issuer = holder(config, "service-ca").certificate
        return _root_of(config, issuer) != _root_of(config, _issuer_of_line(config, office))
    return False


def root_in_office(config: Config) -> x509.Certificate:
    """Return the certificate of the root in office; where its key is away, that is the newest.

    Raises:
        AuthorityProblem: the roots cannot be read, or none is for the key.
    """
    try:
        return open_root(config).certificate
    except KeyUnavailable:
        return roots(config)[-1]


def forget_root(config: Config) -> tuple[x509.Certificate, ...]:
    """Believe no root but the one in office; return those that were believed beside it.

    Raises:
        AuthorityProblem: something at work stands under another, or there is no other; nothing was changed.
        ConfigProblem, OSError, Busy.
    """
    with changing(config):
        root = root_in_office(config)
        others = tuple(one for one in roots(config) if one != root)
        left = {stem: uri for stem, uri in config.keys.former.items() if office_of(stem) != ROOT}
        if not others and len(left) == len(config.keys.former):
            raise AuthorityProblem(f"{config.pki / ROOTS}: holds the root in office alone")
        at_work = {office: holder(config, office).certificate for office in AUTHORITIES}
        for name, issuer in (at_work | {line: _issuer_of_line(config, line) for line in LINES}).items():
            if not is_signed_by(issuer, root):
                raise AuthorityProblem(f"{name} stands under another root; run: fleetward authority rotate {name}")
        _, raw = amend.with_keys(config, {}, left)
        write_durably(config.pki / ROOTS, root.public_bytes(Encoding.PEM))
        amend.write(config.folder, raw)
        return others


@dataclass(frozen=True, slots=True)
class _Plan:
    """A successor before it is there. uri: of its key. before: name and URI of the predecessor. make: do it."""

    stem: str
    uri: str
    before: tuple[str, str]
    make: Callable[[], x509.Certificate]


def _planned(config: Config, office: str, now: datetime, making: Making) -> _Plan:
    """Plan one whose key we make ourselves."""
    before = _before(config, office)
    keys = keys_of(making.to, config.pki) if making.to else beside(before[1], config.folder)
    stem = _free(config, before[0], keys.holds)
    root = None if office == ROOT else open_root(config)
    name = config.provider.name

    def make() -> x509.Certificate:
        if root is None:
            subject = Subject(f"{name} root {number_of(stem)}", name)
            return profiles.self_signed(subject, keys.make(stem, ROOT_BITS), now - BACKDATE)
        unit = Unit(office.removesuffix("-ca"))
        # A name of its own: revocation lists are found by their authority's name.
        subject = Subject(f"{name} {unit} CA {number_of(stem)}", name, unit)
        start = max(now - BACKDATE, root.certificate.not_valid_before_utc)
        return profiles.issue(profiles.ISSUING, subject, keys.make(stem, MIN_RSA_BITS).public_key(), root, start=start)

    return _Plan(stem, keys.uri(stem), before, make)


def _taken(config: Config, office: str, folder: Path) -> _Plan:
    """Plan one that a ceremony made."""
    made, before = successor(folder, office, config.provider.name), _before(config, office)
    if office != ROOT:
        if _root_of(config, made.certificate) is None:
            raise AuthorityProblem(f"{office}: {folder}: was issued by no root of {config.pki / ROOTS}")
        if not fits(made.certificate, open_key(made.uri, config.folder)):
            raise AuthorityProblem(f"{office}: {folder}: its certificate is for another key than {made.uri}")
    known = [*roots(config), *(one.certificate for one in all_generations(config))]
    if any(one.subject == made.certificate.subject for one in known):
        raise AuthorityProblem(f"{office}: {made.certificate.subject.rfc4514_string()} is there already: another name")
    stem = name_in(made.uri) if office == ROOT else _free(config, before[0], lambda _: False)
    return _Plan(stem, made.uri, before, lambda: made.certificate)


def _believe(config: Config, planned: _Plan) -> Successor:
    """Put a root into office, its predecessor believed beside it."""
    _, raw = amend.with_keys(config, {ROOT: planned.uri}, {**config.keys.former, planned.before[0]: planned.before[1]})
    made = planned.make()
    write_durably(config.pki / ROOTS, (config.pki / ROOTS).read_bytes() + made.public_bytes(Encoding.PEM))
    amend.write(config.folder, raw)
    return _told(ROOT, planned.stem, planned.uri, made)


def _install(config: Config, office: str, planned: _Plan, announce: Announce) -> Successor:
    """Put an issuing CA into office."""
    former = {**config.keys.former, planned.before[0]: planned.before[1]}
    known = _known_to_mosip(config, *planned.before) if office == "device-ca" else {}
    after, raw = amend.with_keys(config, {office.replace("-", "_"): planned.uri}, former, known)
    made = planned.make()
    write_durably(config.pki / f"{planned.stem}.pem", made.public_bytes(Encoding.PEM))
    # A broker refuses whom an authority without a list certified, so the list is there before the authority is.
    announce(after)
    amend.write(config.folder, raw)
    return _told(office, planned.stem, planned.uri, made)


def _known_to_mosip(config: Config, stem: str, uri: str) -> dict[str, str]:
    """Return what ``[mosip]`` must say from now on: MOSIP knows the provider by the key that it was shown."""
    table = config.mosip
    if not table.on or table.key:
        return {}
    return {"key": uri} | ({} if table.certificate else {"certificate": f"pki/{stem}.pem"})


def _before(config: Config, office: str) -> tuple[str, str]:
    """Return name and key of who holds root or issuing CA now."""
    if office != ROOT:
        held = holder(config, office)
        return held.stem, held.uri
    name = name_in(config.keys.root)
    return name if office_of(name) == ROOT else ROOT, config.keys.root


def _free(config: Config, stem: str, has_key: Callable[[str], bool]) -> str:
    """Return the next name after ``stem`` that no file, no key and no predecessor has."""
    office, number = office_of(stem), number_of(stem) + 1
    while (
        (config.pki / f"{stem_of(office, number)}.pem").exists()
        or stem_of(office, number) in config.keys.former
        or has_key(stem_of(office, number))
    ):
        number += 1
    return stem_of(office, number)


def _discard(config: Config, office: str) -> None:
    """Remove what a crash left in ``pki``: keys and certificates that never came into office."""
    known = {*config.keys.former, _before(config, office)[0]}
    uris = (*config.keys.by_name().values(), *config.keys.former.values())
    named = {file_of(uri, config.folder).resolve() for uri in uris if uri.startswith("file:")}
    for path in sorted(config.pki.glob(f"{office}-*.pem")):
        stem = path.name.removesuffix(".pem").removesuffix(".key")
        if office_of(stem) == office and stem not in known and path.resolve() not in named:
            path.unlink()


def _root_of(config: Config, issued: x509.Certificate) -> x509.Certificate | None:
    return next((root for root in roots(config) if is_signed_by(issued, root)), None)


def _issuer_of_line(config: Config, name: str) -> x509.Certificate:
    """Return the authority that stands behind the certificate in a line's file."""
    found = read_line(config, name)
    if len(found) < 2:
        raise AuthorityProblem(f"{config.pki / name}.pem: needs the certificate and its authority's")
    return found[1]


def _told(office: str, stem: str, key: str, made: x509.Certificate) -> Successor:
    der = made.public_bytes(Encoding.DER)
    return Successor(office, stem, key, made.subject.rfc4514_string(), thumbprint(der), made.not_valid_after_utc)
