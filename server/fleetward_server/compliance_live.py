"""Live figures of a provider for the report: the fleet in numbers, its authorities' lists, the server's last beacon.

Read only, and no key is asked for. Nothing here names a device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography.x509.oid import NameOID

from fleetward_broker.tls import CredentialsUnusable, read_crls
from fleetward_server import audit, key_places
from fleetward_server.config import Config
from fleetward_server.health import read_health
from fleetward_server.pulse import Pulse, read_pulse
from fleetward_server.running import running
from fleetward_server.store import open_store


@dataclass(frozen=True, slots=True)
class ListAge:
    """One revocation list. state: ``current``, ``ended``, or why it cannot be read."""

    name: str
    issuer: str
    entries: int
    made_at: datetime | None
    ends_at: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where one key lives, and when the certificate over it ends."""

    name: str
    place: str
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a provider's folder says now. why: why it is not serving; empty when it is."""

    provider: str
    environment: str
    serving: bool
    why: str
    pulse: Pulse | None
    devices: int
    states: dict[str, int]
    presences: dict[str, int]
    commands: dict[str, int]
    refused: dict[str, int]
    reports: dict[str, int]
    upgrades: dict[str, int]
    audit_rows: int
    audit_broken: int | None
    lists: tuple[ListAge, ...]
    keys: tuple[KeyPlace, ...]


def figures(config: Config, now: datetime) -> Figures:
    """Look at a provider.

    Raises:
        StoreProblem, AuthorityProblem: what is there cannot be read.
    """
    serving = running(config.folder) is not None
    with open_store(config.store_path) as store:
        counts, reports, verdict = store.counts(), store.report_counts(), audit.walk(store)
        upgrades = store.upgrade_counts()
    return Figures(
        provider=config.provider.name,
        environment=config.provider.environment,
        serving=serving,
        why=read_health(config.folder) if serving else "nothing serves it now",
        pulse=read_pulse(config.folder),
        devices=counts.devices,
        states=counts.states,
        presences=counts.presences,
        commands=counts.steps,
        refused=counts.refusals,
        reports=reports,
        upgrades={f"{name} {phase}": number for (name, phase), number in sorted(upgrades.items())},
        audit_rows=verdict.count,
        audit_broken=verdict.broken,
        lists=tuple(_lists(config, now)),
        keys=tuple(KeyPlace(one.name, one.place, one.not_after) for one in key_places.keys(config, ask=False)),
    )


def _lists(config: Config, now: datetime) -> Iterator[ListAge]:
    for path in sorted((config.pki / "crl").glob("*.pem")):
        try:
            found = read_crls(path)
        except CredentialsUnusable as problem:
            yield ListAge(path.stem, "", 0, None, None, str(problem))
            continue
        for one in found:
            issuer = one.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
            ends = one.next_update_utc
            current = ends is not None and one.last_update_utc <= now < ends
            name = str(issuer[0].value) if issuer else one.issuer.rfc4514_string()
            yield ListAge(path.stem, name, len(one), one.last_update_utc, ends, "current" if current else "ended")
