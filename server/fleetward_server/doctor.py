"""What would keep a provider from serving: each part of its folder looked at, one line each, nothing changed.

A part that cannot be looked at because an earlier one fails is left out. Source: S3, S5, S6.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from fleetward_broker.signers import KeyUnavailable
from fleetward_server import audit
from fleetward_server.authority import AUTHORITIES, AuthorityProblem, open_issuer
from fleetward_server.clock import sureness
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.health import read_health
from fleetward_server.init import ends_soon
from fleetward_server.running import running
from fleetward_server.store import StoreProblem, open_store

LOW_DISK_BYTES = 1 << 30
OWN_CERTIFICATES = ("root", *AUTHORITIES, "broker", "server")


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNS = "warning"
    FAILS = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    part: str
    health: Health
    detail: str


def examine(folder: Path) -> list[Finding]:
    """Look at every part."""
    try:
        config = load(folder)
    except ConfigProblem as problem:
        return [Finding("configuration", Health.FAILS, str(problem))]
    return [Finding("configuration", Health.OK, str(folder)), *_parts(config)]


def _parts(config: Config) -> Iterator[Finding]:
    yield _folder(config.folder)
    yield from _store(config)
    for name in AUTHORITIES:
        yield _held(f"key of {name}", lambda name=name: _key(config, name))  # type: ignore[misc]
    for name in OWN_CERTIFICATES:
        yield _certificate(config.pki / f"{name}.pem", name)
    yield _clock(config)
    yield _disk(config.folder)
    found = running(config.folder)
    serving = f"process {found.get('pid')}, port {found.get('port', 'unknown')}" if found else "nothing serves it now"
    yield Finding("serving", Health.OK, serving)
    if found:
        yield _ready(config.folder)


def _folder(folder: Path) -> Finding:
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("folder", Health.WARNS, f"open to others (mode {mode:o}); run: chmod 700 {folder}")
    return Finding("folder", Health.OK, f"mode {mode:o}")


def _store(config: Config) -> Iterator[Finding]:
    try:
        with open_store(config.store_path) as store:
            yield Finding("store", Health.OK, f"{store.counts().devices} devices")
            verdict = audit.walk(store)
    except StoreProblem as problem:
        yield Finding("store", Health.FAILS, str(problem))
        return
    if verdict.broken is not None:
        yield Finding("audit", Health.FAILS, f"row {verdict.broken} does not hold")
    else:
        yield Finding("audit", Health.OK, f"{verdict.count} rows hold, head {verdict.head[:16]}")


def _held(part: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part, Health.OK, look())
    except (AuthorityProblem, KeyUnavailable) as problem:
        return Finding(part, Health.FAILS, str(problem))


def _key(config: Config, name: str) -> str:
    uri = str(getattr(config.keys, name.replace("-", "_")))
    open_issuer(config, name)
    return f"{uri} fits its certificate" + ("; a file is no HSM" if uri.startswith("file:") else "")


def _certificate(path: Path, name: str) -> Finding:
    part, now = f"certificate of {name}", datetime.now(UTC)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return Finding(part, Health.FAILS, f"{path}: {getattr(error, 'strerror', None) or 'not a PEM certificate'}")
    end = f"until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return Finding(part, Health.FAILS, f"not valid now: {end}")
    return Finding(part, Health.WARNS if ends_soon(certificate, now) else Health.OK, end)


def _clock(config: Config) -> Finding:
    sure = sureness(config.time)
    if sure.radius_ms is None:
        return Finding("clock", Health.FAILS, f"{sure.source}: {sure.detail}; devices get no time")
    health = Health.WARNS if sure.source == "assumed" else Health.OK
    return Finding("clock", health, f"{sure.source}: within {sure.radius_ms} ms; {sure.detail}".rstrip("; "))


def _ready(folder: Path) -> Finding:
    """What the server says of itself."""
    why = read_health(folder)
    return Finding("ready", Health.FAILS if why else Health.OK, why or "takes messages and certifies")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    health = Health.OK if free >= LOW_DISK_BYTES else Health.WARNS
    return Finding("disk", health, f"{free >> 20} MiB free")
