"""Rotation at the device: new keys beside the old, and no moment without a pair the server takes."""

from dataclasses import replace

import pytest

from fleetward_agent.state import Pair
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.commands import Result, ResultReason, ResultState
from fleetward_schemas.presence import Status, StatusReason
from fleetward_schemas.receipts import Ack
from fleetward_schemas.rotation import Certificate
from fleetward_schemas.strict import b64_der
from tests.agent.orders import online, order, results
from tests.world import Stage


def pair_of(stage: Stage) -> Pair:
    pair = stage.device.session.kept.pair
    assert pair is not None
    return pair


def rotated(stage: Stage, before: Pair) -> bool:
    kept = stage.device.session.kept
    return kept.pair not in {None, before} and kept.previous is None and online(stage) and not kept.doomed


def test_the_keys_change_hands_and_the_old_ones_are_destroyed(any_level: Stage) -> None:
    stage = any_level
    stage.until(lambda: online(stage), 60)
    stage.pass_s(2)
    before = pair_of(stage)
    command = order(stage, "rotate-key")
    stage.until(lambda: len(results(stage, command)) == 2)

    after = pair_of(stage)
    assert results(stage, command) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]
    assert set(stage.keys.kept) == {after.device_key, after.transport_key}
    assert stage.shown[-1] == b64_der(after.transport_chain[0])
    assert after.digital_id != before.digital_id
    assert stage.server.digital_id == after.digital_id
    stage.until(lambda: stage.device.session.kept.order is None)
    assert len(stage.server.said("csr")) == 1


def test_the_old_line_is_left_with_the_reason_under_the_old_key(working: Stage) -> None:
    order(working, "rotate-key")
    before = pair_of(working)
    working.until(lambda: rotated(working, before))

    said = [(heard.body, heard.opened) for heard in working.server.said("status")]
    (farewell,) = [opened for body, opened in said if isinstance(body, Status) and body.reason is StatusReason.ROTATED]
    assert farewell.members.digitalId == before.digital_id


def test_a_second_key_command_meanwhile_is_busy(working: Stage) -> None:
    working.server.silent.add("csr")
    first = order(working, "rotate-key")
    working.until(lambda: results(working, first))
    second = order(working, "rotate-key")
    working.until(lambda: results(working, second))

    (body,) = [h.body for h in working.server.said("result") if getattr(h.body, "commandId", "") == second.commandId]
    assert isinstance(body, Result)
    assert (body.state, body.reason) == (ResultState.REFUSED, ResultReason.BUSY)
    working.server.silent.clear()
    working.until(lambda: ResultState.SUCCEEDED in results(working, first))


def test_other_commands_are_done_meanwhile(working: Stage) -> None:
    working.server.silent.add("csr")
    order(working, "rotate-key")
    info = order(working, "collect-info")
    working.until(lambda: ResultState.SUCCEEDED in results(working, info))


def test_an_unanswered_request_is_repeated_with_the_same_id_and_keys(working: Stage) -> None:
    working.server.silent.add("csr")
    before = pair_of(working)
    order(working, "rotate-key")
    working.until(lambda: len(working.server.said("csr")) == 3)
    working.link.cut()
    working.start()
    working.until(lambda: len(working.server.said("csr")) == 4)
    working.server.silent.clear()
    working.until(lambda: rotated(working, before))

    said = working.server.said("csr")
    assert len({(one.opened.id, one.body.json()) for one in said}) == 1


def test_keys_the_server_does_not_want_are_made_again_three_times_at_most(working: Stage) -> None:
    working.server.refuse_csr = "bad-csr"
    before = pair_of(working)
    command = order(working, "rotate-key")
    working.until(lambda: len(results(working, command)) == 2)

    assert results(working, command)[-1] is ResultState.FAILED
    assert len({one.body.json() for one in working.server.said("csr")}) == 3
    working.until(lambda: not working.device.session.kept.doomed)
    assert pair_of(working) == before
    assert set(working.keys.kept) == {before.device_key, before.transport_key}


def test_a_request_nobody_ordered_ends_the_rotation(working: Stage) -> None:
    working.server.refuse_csr = "not-allowed"
    command = order(working, "rotate-key")
    working.until(lambda: len(results(working, command)) == 2)

    assert len(working.server.said("csr")) == 1
    bodies = [h.body for h in working.server.said("result")]
    assert [b.reason for b in bodies if isinstance(b, Result)][-1] is ResultReason.CSR_REFUSED


def waiting_for_certificates(stage: Stage) -> tuple[Pair, Certificate, str]:
    """Stop just before the certificates; return them, and the id they answer."""
    stage.server.silent.add("csr")
    before = pair_of(stage)
    order(stage, "rotate-key")
    stage.until(lambda: stage.server.said("csr"))
    heard = stage.server.said("csr")[-1]
    principal = heard.opened.address.principal
    assert principal is not None
    device, transport = stage.server.chains_for(principal, heard.body.deviceCsr, heard.body.transportCsr)  # type: ignore[attr-defined]
    body = Certificate(commandId=heard.body.commandId, deviceChain=device, transportChain=transport)  # type: ignore[attr-defined]
    return before, body, heard.opened.id


@pytest.mark.parametrize("change", ["reply", "command", "keys", "swapped", "transport-twice", "none"])
def test_only_our_own_certificates_for_our_own_request_are_taken(working: Stage, change: str) -> None:
    before, body, asked = waiting_for_certificates(working)
    old = {"deviceChain": list(before.device_chain), "transportChain": list(before.transport_chain)}
    other = working.server.draft(working.id, "ack", body).id
    wrong = {
        "command": body.changed(commandId=other),
        "keys": body.changed(**old),
        "swapped": body.changed(deviceChain=body.transportChain, transportChain=body.deviceChain),
        "transport-twice": body.changed(deviceChain=body.transportChain),
    }
    working.server.say(working.id, wrong.get(change, body), in_reply_to=other if change == "reply" else asked)
    working.pass_s(20)

    assert (pair_of(working) != before) is (change == "none")
    assert (working.device.session.kept.previous is None) is (change != "none" or online(working))


@pytest.mark.parametrize("with_new", [True, False])
def test_whichever_pair_the_server_takes_lets_the_device_in(working: Stage, with_new: bool) -> None:
    """Refused three times with one pair it tries the other; unanswered for ten minutes too."""
    before, body, asked = waiting_for_certificates(working)
    ended = working.server.device_leaf if not with_new else b64_der(before.device_chain[0])
    assert ended is not None
    working.server.ended.add(thumbprint(ended))
    working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: online(working) and working.device.session.kept.pair != before, 3600)

    assert working.device.session.old is not with_new
    assert (working.device.session.kept.previous is None) is with_new


def test_three_refused_dials_turn_to_the_other_pair(working: Stage) -> None:
    before, body, asked = waiting_for_certificates(working)
    working.link.refuse = Loss.TLS_REFUSED
    working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: len(working.shown) >= 12, 7200)

    new, old = b64_der(pair_of(working).transport_chain[0]), b64_der(before.transport_chain[0])
    first = working.shown.index(new)
    assert working.shown[first : first + 7] == [new] * 3 + [old] * 3 + [new]
    working.link.refuse = None
    working.until(lambda: rotated(working, before), 7200)


def test_under_the_old_pair_it_asks_for_the_same_certificates_again(working: Stage) -> None:
    before, body, asked = waiting_for_certificates(working)
    working.server.silent |= {"status"}
    working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: working.device.session.old and working.device.session.connected, 7200)
    working.server.silent.clear()
    working.until(lambda: rotated(working, before), 7200)

    assert len({h.body.json() for h in working.server.said("csr")}) == 1


@pytest.mark.parametrize("stop", range(1, 60))
def test_a_crash_after_any_turn_changes_nothing(stage: Stage, stop: int) -> None:
    """The agent is killed after ``stop`` turns, and every so many from then on."""
    stage.until(lambda: online(stage), 60)
    before = pair_of(stage)
    command = order(stage, "rotate-key")
    for turn in range(stop):
        stage.turn(0.05 if turn % 2 else 1.0)
    stage.link.cut()
    stage.start()
    stage.until(lambda: rotated(stage, before) and ResultState.SUCCEEDED in results(stage, command), 3600)
    stage.until(lambda: stage.device.session.kept.order is None)

    after = pair_of(stage)
    assert set(stage.keys.kept) == {after.device_key, after.transport_key}
    assert len({h.body.json() for h in stage.server.said("csr")}) == 1


def test_an_order_that_may_have_expired_is_not_begun(working: Stage) -> None:
    command = order(working, "rotate-key", minutes=0)
    working.pass_s(5)

    assert ResultState.SUCCEEDED not in results(working, command)
    assert not working.server.said("csr")
    assert working.device.stage is At.WORKING


def test_a_downlink_may_echo_the_previous_digital_id_until_the_new_one_is_taken(working: Stage) -> None:
    working.pass_s(2)
    before, body, asked = waiting_for_certificates(working)
    working.server.silent.add("status")
    working.server.say(working.id, body, in_reply_to=asked)
    working.until(lambda: working.device.session.kept.previous is not None and working.device.session.connected)
    working.until(lambda: working.server.said("status")[-1].opened.members.digitalId != before.digital_id)

    draft = working.server.draft(working.id, "ack", _ack(working))
    working.server.deliver(replace(draft, digital_id=before.digital_id))
    working.until(lambda: rotated(working, before))


def _ack(stage: Stage) -> Ack:
    return Ack(ids=[stage.server.said("status")[-1].opened.id])
