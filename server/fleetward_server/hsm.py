"""What holds a provider's keys: each token, and each key as its token describes it. Nothing is changed.

Source: S6.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, is_software, read_uri, show_uri
from fleetward_broker.signers import needing_hsm
from fleetward_server.config import Config
from fleetward_server.doctor import Health
from fleetward_server.generations import (
    AUTHORITIES,
    ROOT,
    AuthorityProblem,
    former,
    in_office,
    open_former,
    open_root,
)


@dataclass(frozen=True, slots=True)
class Look:
    """One token or key. part: ``token ...`` or ``key ...``. said: in its own words, as far as it was reached."""

    part: str
    health: Health
    detail: str
    said: dict[str, str] = field(default_factory=dict)


def look(config: Config) -> list[Look]:
    """Look at every token that the configuration names, and every key."""
    return [*_tokens(config), *_keys(config)]


def _uris(config: Config) -> dict[str, str]:
    return config.keys.by_name() | {f"former {stem}": uri for stem, uri in config.keys.former.items()}


def _tokens(config: Config) -> Iterator[Look]:
    seen: set[tuple[Path, str, str]] = set()
    for text in _uris(config).values():
        if not text.startswith(SCHEME):
            continue
        uri = read_uri(text, config.folder)
        where = (uri.module, uri.token, uri.serial)
        if where in seen:
            continue
        seen.add(where)
        yield _token(show_uri(uri), f"token {uri.token or uri.serial}", software=is_software(uri))


def _token(uri: str, part: str, *, software: bool) -> Look:
    try:
        with needing_hsm():
            from fleetward_broker.token_facts import look_at_token

            facts = look_at_token(uri)
    except KeyUnavailable as problem:
        return Look(part, Health.FAILS, str(problem))
    can = [
        f"{verb} {alg}" for verb, algs in (("signs", facts.signs), ("makes", facts.makes)) for alg in algs if algs[alg]
    ]
    detail = f"{facts.manufacturer} {facts.model}, firmware {facts.firmware}, serial {facts.serial}: {', '.join(can)}"
    said = {"module": facts.module, "serial": facts.serial, "flags": " ".join(facts.flags), "can": ", ".join(can)}
    if facts.flags:
        return Look(part, Health.FAILS, f"{' '.join(facts.flags)}: {detail}", said)
    return (
        Look(part, Health.WARNS, f"software, and no HSM: {detail}", said)
        if software
        else Look(part, Health.OK, detail, said)
    )


def _keys(config: Config) -> Iterator[Look]:
    for name, uri in config.keys.by_name().items():
        yield _key(config, name, uri)
    for one in former(config):
        yield _key(config, f"former {one.stem}", one.uri)


def _key(config: Config, name: str, uri: str) -> Look:
    part = f"key {name}"
    try:
        _fits(config, name)
    except (KeyUnavailable, AuthorityProblem) as problem:
        # A root that is kept elsewhere is as it should be; a former key is needed for a list alone.
        health = Health.FAILS if name in AUTHORITIES else Health.WARNS
        return Look(part, health, str(problem), {"uri": uri})
    if not uri.startswith(SCHEME):
        return Look(part, Health.WARNS, f"{uri} fits its certificate; a file is no HSM", {"uri": uri})
    from fleetward_broker.token_facts import every_attribute_of

    return Look(part, Health.OK, f"{uri} fits its certificate", {"uri": uri, **every_attribute_of(uri, config.folder)})


def _fits(config: Config, name: str) -> None:
    """Open a key: what it says of itself, its probe signature, and its certificate's key are looked at there."""
    if name == ROOT:
        open_root(config)
    elif name in AUTHORITIES:
        in_office(config, name)
    else:
        for one in former(config):
            if name == f"former {one.stem}":
                open_former(config, one)
