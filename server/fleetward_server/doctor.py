"""What would keep a provider from serving: each part of its folder looked at, one line each, nothing changed.

A part that cannot be looked at because an earlier one fails is left out. Source: S3, S5, S6.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.upgrade import Phase
from fleetward_server import audit
from fleetward_server.clock import sureness
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.ending import level, told
from fleetward_server.generations import AUTHORITIES, ROOT, AuthorityProblem, former, in_office, open_former
from fleetward_server.health import read_health
from fleetward_server.mosip.checking import checked
from fleetward_server.problem import OperatorProblem
from fleetward_server.releases.proving import has_repository, standings
from fleetward_server.running import running
from fleetward_server.standing import certificates_of_others
from fleetward_server.store import Store, StoreProblem, open_store

LOW_DISK_BYTES = 1 << 30
STUCK = frozenset({Phase.FAILED, Phase.LOCKED})
OWN_CERTIFICATES = (ROOT, "broker", "server")


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
    for office in AUTHORITIES:
        yield from _authority(config, office)
    yield from _former(config)
    for name in OWN_CERTIFICATES:
        yield from _certificates(config.pki / f"{name}.pem", name)
    yield _clock(config)
    yield from _mosip(config)
    yield from _releases(config)
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
            yield from _registered(config, store)
            yield from _upgrades(store)
            verdict = audit.walk(store)
    except StoreProblem as problem:
        yield Finding("store", Health.FAILS, str(problem))
        return
    if verdict.broken is not None:
        yield Finding("audit", Health.FAILS, f"row {verdict.broken} does not hold")
    else:
        yield Finding("audit", Health.OK, f"{verdict.count} rows hold, head {verdict.head[:16]}")


def _registered(config: Config, store: Store) -> Iterator[Finding]:
    """What the register holds of certificates: those of devices in numbers, and those that others made."""
    endings = store.device_endings(datetime.now(UTC))
    yield Finding("certificates of devices", Health.WARNS if endings.there else Health.OK, str(endings))
    try:
        for one in certificates_of_others(config, store.ftm_roots()):
            yield _ends(f"certificate of {one.role} {one.name}", one.not_before, one.not_after)
    except AuthorityProblem as problem:
        yield Finding("certificates of others", Health.FAILS, str(problem))


def _upgrades(store: Store) -> Iterator[Finding]:
    """How the devices' upgrades stand, in numbers; those that failed or are locked wait for somebody."""
    found = store.upgrade_counts()
    if not found:
        return
    stuck = {one for one in found if one[1] in STUCK}
    each = ", ".join(f"{name} {phase} {number}" for (name, phase), number in sorted(found.items()))
    hint = "; see: fleetward upgrade status upgrade:failed,locked" if stuck else ""
    yield Finding("upgrades", Health.WARNS if stuck else Health.OK, f"devices by their last word: {each}{hint}")


def _mosip(config: Config) -> Iterator[Finding]:
    health = {True: Health.OK, False: Health.FAILS, None: Health.WARNS}
    try:
        with open_store(config.store_path) as store:
            for one in checked(config, store, datetime.now(UTC)):
                yield Finding(one.part, health[one.well], one.detail)
    except StoreProblem:
        return  # Told above.


def _releases(config: Config) -> Iterator[Finding]:
    if not has_repository(config.folder):
        return
    now = datetime.now(UTC)
    try:
        found = standings(config.folder, now)
    except (OperatorProblem, OSError) as problem:
        yield Finding("releases", Health.FAILS, str(problem))
        return
    for one in found:
        health = Health.FAILS if one.ends <= now else Health.WARNS if one.soon else Health.OK
        yield Finding(f"releases: {one.role}", health, f"until {one.ends:%Y-%m-%d}, signed by {one.signed_by}")


def _authority(config: Config, office: str) -> Iterator[Finding]:
    try:
        _, held = in_office(config, office)
    except (AuthorityProblem, KeyUnavailable) as problem:
        yield Finding(f"key of {office}", Health.FAILS, str(problem))
        return
    note = "; a file is no HSM" if held.uri.startswith("file:") else ""
    yield Finding(f"key of {office}", Health.OK, f"{held.uri} fits its certificate{note}")
    yield _ends(f"certificate of {held.stem}", *_validity(held.certificate))


def _former(config: Config) -> Iterator[Finding]:
    """A predecessor's key is needed for its list alone, which then lives on for a year."""
    try:
        lasting = [one for one in former(config) if not one.has_ended(datetime.now(UTC))]
    except AuthorityProblem as problem:
        yield Finding("former authorities", Health.FAILS, str(problem))
        return
    for one in lasting:
        part = f"key of former {one.stem}"
        try:
            open_former(config, one)
        except (AuthorityProblem, KeyUnavailable) as problem:
            yield Finding(part, Health.WARNS, f"its revocation list is not renewed: {problem}")
        else:
            yield Finding(part, Health.OK, f"signs its list until {one.certificate.not_valid_after_utc:%Y-%m-%d}")


def _certificates(path: Path, name: str) -> Iterator[Finding]:
    part = f"certificate of {name}"
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        detail = f"{path}: {getattr(error, 'strerror', None) or 'not a PEM certificate'}"
        yield Finding(part, Health.FAILS, detail)
        return
    # A line's file holds its authority too, which is looked at above.
    yield from (_ends(part, *_validity(one)) for one in (found if name == ROOT else found[:1]))


def _validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _ends(part: str, begin: datetime, end: datetime) -> Finding:
    now = datetime.now(UTC)
    if not begin <= now < end:
        return Finding(part, Health.FAILS, f"not valid now: {told(end, now)}")
    return Finding(part, Health.OK if level(end, now) is None else Health.WARNS, told(end, now))


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
