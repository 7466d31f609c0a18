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
from fleetward_server.mosip import operating
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.watching import approved
from fleetward_server.pulse import Pulse, read_pulse
from fleetward_server.running import running
from fleetward_server.store import Store, open_store


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
class Encrypting:
    """Whom biometrics of one domain are encrypted for. state: ``valid``, ``ended``, or why there is none."""

    domain: str
    thumbprint: str
    ends_at: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class MosipFigures:
    """What MOSIP was told. reached: None before the connector ran; not_approved: None before it was asked."""

    profile: str
    reached: bool | None
    tasks: dict[str, int]
    not_approved: tuple[str, ...] | None
    encryption: tuple[Encrypting, ...]


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
    mosip: MosipFigures | None


def figures(config: Config, now: datetime) -> Figures:
    """Look at a provider.

    Raises:
        StoreProblem, AuthorityProblem: what is there cannot be read.
    """
    serving = running(config.folder) is not None
    with open_store(config.store_path) as store:
        counts, reports, verdict = store.counts(), store.report_counts(), audit.walk(store)
        upgrades = store.upgrade_counts()
        mosip = _mosip(config, store, now)
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
        mosip=mosip,
    )


def _mosip(config: Config, store: Store, now: datetime) -> MosipFigures | None:
    if not config.mosip.on:
        return None
    said, asked = operating.status(config, store), approved(config.folder)
    found = (store.encryption_certificate(config.provider.environment, one) for one in config.mosip.domain_uris)
    return MosipFigures(
        profile=config.mosip.profile,
        reached=said["reached"],
        tasks=said["tasks"],
        not_approved=None if asked is None else asked.lacking,
        encryption=tuple(
            _encrypting(domain, row, now) for domain, row in zip(config.mosip.domain_uris, found, strict=True)
        ),
    )


def _encrypting(domain: str, row: EncryptionCertificate | None, now: datetime) -> Encrypting:
    if row is None or row.thumbprint is None:
        return Encrypting(domain, "", None, "not fetched yet" if row is None else f"{row.code}: {row.detail}")
    return Encrypting(domain, row.thumbprint, row.not_after, "valid" if row.usable(now) else "ended")


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
