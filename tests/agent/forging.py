"""A broker's hand: messages made, sealed, changed and delivered as an attacker would."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from fleetward_agent.origin import Credential
from fleetward_broker import profiles
from fleetward_broker.signers import make_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.commands import Command
from fleetward_schemas.envelope import Draft, seal
from fleetward_schemas.jws import Alg, compact
from fleetward_schemas.receipts import Ack
from fleetward_schemas.strict import b64url, b64url_decode
from fleetward_schemas.topics import down
from tests.world import START, Provider, Stage


def order(stage: Stage, **changes: object) -> Draft:
    """Draft a lawful command."""
    draft = stage.server.draft(stage.id, "command", Ack(ids=[]))
    command = Command(commandId=draft.id, command="collect-info", params={})
    return replace(draft, body=command, expires=stage.clock.now + timedelta(minutes=5), **changes)  # type: ignore[arg-type]


def sealed(stage: Stage, draft: Draft | None = None, signer: Credential | None = None, late_s: float = 0) -> bytes:
    by = (signer or stage.server.signer).by_chain()
    return seal(draft or order(stage), by, stage.clock.now - timedelta(seconds=late_s))


def rewritten(stage: Stage, raw: bytes, change: Callable[[str], str], key: Credential | None = None) -> bytes:
    """Change the payload's text; signed again by ``key`` when it is given."""
    header, payload, signature = raw.split(b".")
    text = change(b64url_decode(payload).decode()).encode()
    if key is None:
        return b".".join((header, b64url(text).encode(), signature))
    return compact(header, text, key.key)


def code_of(stage: Stage, raw: bytes, topic: str | None = None) -> str | None:
    """Deliver; return the code it was refused with, None when it was taken."""
    before = len(stage.events("refused"))
    stage.link.send(topic or down(stage.id, "command"), raw)
    stage.turn()
    refused = stage.events("refused")[before:]
    return str(refused[0]["code"]) if refused else None


def leaf(
    stage: Stage, name: str, unit: Unit, profile: profiles.Profile, provider: Provider | None = None
) -> Credential:
    key = make_key(Alg.EDDSA)
    made = (provider or stage.provider).leaf(profile, name, key.public_key(), unit, START - timedelta(hours=1))
    return Credential(key, made)
