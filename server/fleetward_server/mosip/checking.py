"""What ``doctor`` looks at for MOSIP: the provider's key and certificate, the secret, the anchors, and what lies aside.

Nothing is asked of MOSIP itself; whether it can be reached, the connector says. Source: S2, E1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pins import read_pin
from fleetward_schemas.encryption import MosipAnchors
from fleetward_server.config import Config, ConfigProblem
from fleetward_server.encryption import anchors_of
from fleetward_server.generations import AuthorityProblem
from fleetward_server.mosip.operating import reached
from fleetward_server.mosip.queue import TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.signing import open_seal
from fleetward_server.mosip.watching import approved
from fleetward_server.store import Store


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at. well: None when it is so-so."""

    part: str
    well: bool | None
    detail: str


def checked(config: Config, store: Store, now: datetime) -> Iterator[Checked]:
    """Look at everything that ``[mosip]`` names."""
    if not config.mosip.on:
        return
    yield _key(config, now)
    yield _secret(config)
    yield from _anchors(config, now)
    yield _queue(config, store)
    yield from _approvals(config)
    yield from _encryption(config, store, now)


def _key(config: Config, now: datetime) -> Checked:
    part = "mosip: provider's key"
    try:
        certificate = open_seal(config).certificate
    except (ConfigProblem, KeyUnavailable, AuthorityProblem) as problem:
        return Checked(part, well=False, detail=str(problem))
    end = certificate.not_valid_after_utc
    said = f"signed by {certificate.issuer.rfc4514_string()}, until {end:%Y-%m-%d}"
    left = end - now
    return Checked(part, well=False if left.days < 0 else None if left.days < 30 else True, detail=said)


def _secret(config: Config) -> Checked:
    try:
        read_pin(str(config.folder / config.mosip.secret_file))
    except KeyUnavailable as problem:
        return Checked("mosip: secret", well=False, detail=str(problem))
    return Checked("mosip: secret", well=True, detail=config.mosip.secret_file)


def _anchors(config: Config, now: datetime) -> Iterator[Checked]:
    for key in ("anchors", "encryption_anchors"):
        try:
            held = anchors_of(config, key)
        except ConfigProblem as problem:
            yield Checked(f"mosip: {key}", well=False, detail=str(problem))
            continue
        if held is not None:
            yield _held(f"mosip: {key}", held, now)


def _held(part: str, held: MosipAnchors, now: datetime) -> Checked:
    over = [one for one in held.held if not one.not_valid_before_utc <= now <= one.not_valid_after_utc]
    said = f"{len(held.held)} certificates"
    return Checked(
        part, well=None if over else True, detail=f"{said}, {len(over)} of them not valid now" if over else said
    )


def _queue(config: Config, store: Store) -> Checked:
    dead = len(store.mosip_tasks(TaskState.DEAD, limit=1000))
    why = reached(config.folder)
    if why.get("reached") is False:
        return Checked("mosip: reached", well=None, detail=f"{why['code']}: {why['detail']} (since {why['since']})")
    if dead:
        return Checked("mosip: queue", well=None, detail=f"{dead} refused; fleetward mosip queue --state dead")
    return Checked("mosip: queue", well=True, detail=f"{config.mosip.profile}, nothing lies aside")


def _approvals(config: Config) -> Iterator[Checked]:
    if config.mosip.profile != Profile.CRYPTO_ONLY:
        return
    part, last = "mosip: approvals", approved(config.folder)
    if last is None:
        yield Checked(part, well=None, detail="not asked for yet; now: fleetward mosip approvals")
    elif last.lacking:
        yield Checked(
            part, well=None, detail=f"not approved there: {'; '.join(last.lacking)} (asked {last.at:%Y-%m-%d})"
        )
    else:
        yield Checked(part, well=True, detail=f"{last.asked} things asked for, all good, {last.at:%Y-%m-%d}")


def _encryption(config: Config, store: Store, now: datetime) -> Iterator[Checked]:
    for domain in config.mosip.domain_uris:
        row = store.encryption_certificate(config.provider.environment, domain)
        part = f"mosip: encryption for {domain}"
        if row is None or not row.usable(now):
            why = "not fetched yet" if row is None or row.code is None else f"{row.code}: {row.detail}"
            yield Checked(part, well=None, detail=f"{why}; devices answer 108")
        else:
            yield Checked(part, well=True, detail=f"{row.thumbprint}, until {row.not_after:%Y-%m-%d}")
