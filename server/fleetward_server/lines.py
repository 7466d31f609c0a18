"""The certificates of our two ends of the line: the broker's for TLS, and the server's to the broker.

Both are issued by the service CA for a year, with a key of their own each time. A key and its certificate are two
files, so a new pair is written beside the old one under ``.next`` and then moved over it, the certificate last: the
certificate of ``.next`` is what decides, and whoever starts anything finishes what a crash left. Source: protocol 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import sync_folder, write_durably, write_private
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_schemas.jws import Alg
from fleetward_server.authority import BACKDATE
from fleetward_server.config import FILE, Config, load
from fleetward_server.generations import open_issuer
from fleetward_server.locks import CHANGE_S, SERVING_S, Busy, held
from fleetward_server.standing import LINES, read_line

_MADE: dict[str, tuple[Profile, Alg]] = {
    "broker": (profiles.SERVER_TLS, Alg.RS256),
    "server": (profiles.SERVICE_CLIENT, Alg.EDDSA),
}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
RENEW_BEFORE = timedelta(days=30)
NEXT = ".next"
LOCK = ".succession.lock"


def make_line(pki: Path, name: str, subject: Subject, service: Issuer, now: datetime, *, beside: str = "") -> None:
    """Make the key and certificate of a line. beside: what to add to the names of the files."""
    profile, alg = _MADE[name]
    key = make_key(alg)
    start = max(now - BACKDATE, service.certificate.not_valid_before_utc)
    made = profiles.issue(profile, subject, key.public_key(), service, start=start)
    # These open TLS and nothing else, and Python's TLS reads keys from files.
    write_private(pki / f"{name}{beside}.key.pem", key_pem(key))
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (made, service.certificate))
    write_durably(pki / f"{name}{beside}.pem", chain)


def subject_of_line(name: str, organisation: str, host: str, also: tuple[str, ...] = LOCAL_HOSTS) -> Subject:
    """Return whom a line's certificate is about. also: names of the broker beside the one that devices dial."""
    if name == "broker":
        return Subject(host, organisation, hosts=tuple(dict.fromkeys((host, *also))))
    return Subject(name, organisation)


def renew_line(config: Config, name: str, now: datetime) -> x509.Certificate:
    """Give a line another key and certificate; hold ``alone`` meanwhile. Names that the broker had, it keeps.

    Raises:
        KeyUnavailable, AuthorityProblem: the service CA cannot issue; nothing was changed. OSError.
    """
    mend(config)
    service = open_issuer(config, "service-ca")
    also = (*LOCAL_HOSTS, *_hosts(read_line(config, name)[0]))
    subject = subject_of_line(name, config.provider.name, config.broker.host, also)
    make_line(config.pki, name, subject, service, now, beside=NEXT)
    mend(config)
    return read_line(config, name)[0]


def due_lines(config: Config, now: datetime) -> tuple[str, ...]:
    """Return the lines whose certificates end soon, or have not begun: our clock was ahead when they were made.

    Raises:
        AuthorityProblem: one cannot be read.
    """
    return tuple(name for name in LINES if _is_due(read_line(config, name)[0], now))


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    return not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEW_BEFORE


def finish_lines(config: Config) -> None:
    """Bring what a crash left to an end: a pair that was complete takes its place, half a pair is removed.

    Whoever changes keys for longer than a line takes has done so as it began, and may be waiting for our broker.
    """
    with suppress(Busy), alone(config):
        mend(config)


@contextmanager
def alone(config: Config, within_s: float = SERVING_S) -> Iterator[None]:
    """Have no other process change the provider's keys, or its configuration, meanwhile.

    Raises: Busy: another one does, for longer than ``within_s``.
    """
    with held(config.pki / LOCK, within_s, "is changing keys"):
        yield


@contextmanager
def changing(config: Config) -> Iterator[None]:
    """Change keys or the configuration as who knows them as they are.

    What was decided by a configuration that another has replaced since would undo what that one did: a key that has
    come into office would be thrown away, a predecessor's list would be signed no more.

    Raises: Busy: another changes them, or has since ``config`` was read; nothing was changed. ConfigProblem.
    """
    with alone(config, CHANGE_S):
        if load(config.folder) != config:
            raise Busy(config.folder / FILE, "was changed meanwhile; look, and do it again")
        yield


def mend(config: Config) -> None:
    """Finish what a crash left, as ``finish_lines``; hold ``alone`` meanwhile."""
    for half in config.pki.glob(".*.tmp"):
        # Nobody else makes keys here meanwhile, and it may hold one.
        half.unlink(missing_ok=True)
    for name in LINES:
        key, chain = (config.pki / f"{name}{NEXT}{suffix}" for suffix in (".key.pem", ".pem"))
        if not chain.exists():
            key.unlink(missing_ok=True)
            continue
        if key.exists():
            key.replace(config.pki / f"{name}.key.pem")
            sync_folder(config.pki)
        chain.replace(config.pki / f"{name}.pem")
        sync_folder(config.pki)


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)
