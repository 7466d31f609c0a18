"""A genuine broker in hostile hands orders new keys or an end, answers with other certificates, or plays the past."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_agent.state import Kept
from fleetward_broker import profiles
from fleetward_schemas.certificates import Unit
from fleetward_schemas.commands import Command
from fleetward_schemas.envelope import Draft
from fleetward_schemas.errors import Code
from tests.agent.forging import code_of, leaf, order, sealed
from tests.agent.test_rotation import pair_of, waiting_for_certificates
from tests.world import Provider, Stage

VERBS = ("rotate-key", "retire")


def key_order(stage: Stage, verb: str) -> Draft:
    draft = order(stage)
    return replace(draft, body=Command(commandId=draft.id, command=verb, params={}))


def untouched(stage: Stage, before: Kept) -> bool:
    kept = stage.device.session.kept
    return (kept.pair, kept.order, kept.previous) == (before.pair, None, None) and len(stage.keys.kept) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_an_order_that_the_server_did_not_sign_does_nothing(
    working: Stage, other_provider: Provider, verb: str
) -> None:
    before = working.device.session.kept
    device = leaf(working, f"sign-{working.id}", Unit.DEVICE, profiles.DEVICE)
    transport = leaf(working, working.id, Unit.DEVICE, profiles.TRANSPORT)
    for signer in (device, transport, other_provider.server_signer()):
        assert code_of(working, sealed(working, key_order(working, verb), signer)) == Code.WRONG_SERVER
    working.pass_s(120)
    assert untouched(working, before)
    assert not working.server.said("csr")

    assert code_of(working, sealed(working, key_order(working, verb))) is None
    assert working.device.session.kept.order is not None


@pytest.mark.parametrize("verb", VERBS)
def test_an_order_of_an_old_signing_key_does_nothing(working: Stage, verb: str) -> None:
    """A key stolen long ago: over seven days older than one that was seen."""
    old = working.provider.server_signer(working.clock.now - timedelta(days=9))
    before = working.device.session.kept
    assert code_of(working, sealed(working, key_order(working, verb), old)) == Code.WRONG_SERVER
    working.pass_s(30)
    assert untouched(working, before)


@pytest.mark.parametrize("verb", VERBS)
def test_an_order_from_before_its_state_was_lost_is_dead(working: Stage, verb: str) -> None:
    """The digital ID that it echoes is not the device's any more."""
    recorded = sealed(working, key_order(working, verb))
    lost = Stage(working.provider, serial="SN-1")
    lost.pass_s(5)
    lost.until(lambda: lost.device.stage == "working", 60)
    lost.turn()

    assert code_of(lost, recorded) == Code.BAD_DIGITAL_ID
    assert code_of(lost, sealed(lost, key_order(lost, verb))) is None


def test_certificates_played_again_after_the_rotation_change_nothing(working: Stage) -> None:
    before, body, asked = waiting_for_certificates(working)
    recorded = working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: pair_of(working) != before and working.device.session.kept.previous is None)
    after = working.device.session.kept
    working.link.send(f"fw/v1/d/{working.id}/down/certificate", recorded)
    working.pass_s(30)

    assert working.device.session.kept.pair == after.pair
    assert len(working.keys.kept) == 2


def test_certificates_of_another_ca_are_not_taken(working: Stage, other_provider: Provider) -> None:
    before, body, asked = waiting_for_certificates(working)
    working.server.provider, own = other_provider, working.server.provider
    working.server.chains.clear()
    heard = working.server.said("csr")[-1]
    principal = heard.opened.address.principal
    assert principal is not None
    device, transport = working.server.chains_for(principal, heard.body.deviceCsr, heard.body.transportCsr)  # type: ignore[attr-defined]
    foreign = body.changed(deviceChain=device, transportChain=transport)
    working.server.provider = own
    working.server.say(working.id, foreign, in_reply_to=asked)
    working.pass_s(5)
    assert pair_of(working) == before
    assert Code.BAD_BODY in [event["code"] for event in working.events("refused")]

    working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: pair_of(working) != before)
