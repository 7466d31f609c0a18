"""The certificates of our two ends of the line: the broker's for TLS, and the server's to the broker.

Both are issued by the service CA for a year, with a key of their own each time. A key and its certificate are two
files, so a new pair is written beside the old one under ``.next`` and then moved over it, the certificate last: the
certificate of ``.next`` is what decides, and whoever starts anything finishes what a crash left. Source: protocol 1.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import sync_folder, write_durably, write_private
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_schemas.jws import Alg
from fleetward_server.authority import BACKDATE
from fleetward_server.config import Config
from fleetward_server.generations import open_issuer
from fleetward_server.standing import LINES, read_line

_MADE: dict[str, tuple[Profile, Alg]] = {
    "broker": (profiles.SERVER_TLS, Alg.RS256),
    "server": (profiles.SERVICE_CLIENT, Alg.EDDSA),
}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
RENEW_BEFORE = timedelta(days=30)
NEXT = ".next"
LOCK = ".succession.lock"
PATIENCE_S = 2.0
LOOK_S = 0.02


class Busy(OSError):  # noqa: N818 - says what is so
    """Another process is changing the provider's keys."""


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
    with suppress(Busy), alone(config, PATIENCE_S):
        mend(config)


@contextmanager
def alone(config: Config, patience_s: float | None = None) -> Iterator[None]:
    """Have no other process change the provider's keys meanwhile; ends with the process, however it ends.

    patience_s: how long another is waited for; without it until that one has ended. Raises: Busy: another one does.
    """
    with (config.pki / LOCK).open("a") as file:
        if patience_s is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_within(file, patience_s, config.pki)
        yield


def _lock_within(file: IO[str], patience_s: float, pki: Path) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(f"{pki}: another process is changing keys") from None
        time.sleep(LOOK_S)


def mend(config: Config) -> None:
    """Finish what a crash left, as ``finish_lines``; hold ``alone`` meanwhile."""
    for half in config.pki.glob(".*.tmp"):
        # Nobody else writes here meanwhile, and it may hold a key.
        half.unlink()
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
