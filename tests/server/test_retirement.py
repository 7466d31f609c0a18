"""Retirement at the server: out a minute after the last word, or at the end without one; nobody comes back unasked."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleetward_schemas.commands import ResultState, Step
from fleetward_schemas.enrol import State
from fleetward_schemas.retirement import GRACE
from fleetward_schemas.strict import b64_der
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import OperatorProblem
from fleetward_server.state import CertificateState, Presence
from tests.device import TestDevice
from tests.server.test_rotation import answer, ordered
from tests.server.test_worker import Bench


@pytest.fixture
def eve(bench: Bench) -> Iterator[LocalOperator]:
    with LocalOperator(bench.store.path.parent, "eve", lambda: bench.now) as operator:
        yield operator


def state(bench: Bench, device: TestDevice) -> State:
    row = bench.store.device(device.id)
    assert row is not None
    return row.state


def actions(bench: Bench, device: TestDevice) -> list[str]:
    return [link.entry.action for link in bench.store.history(device.id)]


def test_a_minute_after_its_last_word_a_device_is_out(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device, "retire")
    kind, body = answer(bench.hear(device.result(bench.now, command.id, ResultState.SUCCEEDED)))
    assert (kind, body["ids"]) == ("ack", [device.last_id])
    bench.worker.chores(bench.now + GRACE - timedelta(seconds=1))
    assert state(bench, device) is State.REGISTERED
    assert bench.hear(device.result(bench.now, command.id, ResultState.SUCCEEDED)), "its word again is answered again"
    bench.now += GRACE
    bench.worker.chores(bench.now)

    row = bench.store.device(device.id)
    assert row is not None
    assert (row.state, row.retire_at, row.presence) == (State.RETIRED, None, Presence.OFFLINE)
    assert {one.state for one in bench.store.certificates(device.id)} == {CertificateState.REVOKED}
    (cut,) = bench.store.cuts()
    assert cut.kick
    assert not bench.hear(device.telemetry(bench.now))
    assert actions(bench, device)[-1] == "retired"


def test_without_a_word_it_is_out_when_the_order_expires(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device, "retire", expires_in_s=120)
    bench.now += timedelta(seconds=121)
    bench.worker.chores(bench.now)

    assert bench.store.command(command.id).step is Step.EXPIRED  # type: ignore[union-attr]
    assert state(bench, device) is State.RETIRED
    assert actions(bench, device)[-1] == "retired-unacknowledged"


@pytest.mark.parametrize("result", [ResultState.REFUSED, ResultState.FAILED, ResultState.ACCEPTED])
def test_another_word_is_no_last_word(bench: Bench, result: ResultState) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device, "retire")
    bench.hear(device.result(bench.now, command.id, result))
    bench.now += 2 * GRACE
    bench.worker.chores(bench.now)

    assert state(bench, device) is State.REGISTERED


def test_another_devices_word_retires_nobody(bench: Bench) -> None:
    l1, l0 = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    command = ordered(bench, l1, "retire")
    bench.hear(l0.result(bench.now, command.id, ResultState.SUCCEEDED))
    bench.now += 2 * GRACE
    bench.worker.chores(bench.now)

    assert (state(bench, l1), state(bench, l0)) == (State.REGISTERED, State.REGISTERED)


def test_it_asks_and_is_told_until_it_is_reinstated(bench: Bench, eve: LocalOperator) -> None:
    device = bench.enrolled(bench.l1)
    ordered(bench, device, "retire", expires_in_s=60)
    bench.now += timedelta(seconds=61)
    bench.worker.chores(bench.now)
    _, said = answer(bench.hear(device.hello(bench.now)))
    assert (said["status"], said["reason"], said["retryAfterS"]) == ("refused", "retired", 86_400)

    eve.reinstate(device.id, "repaired")
    device.device_leaf = b""
    device.new_keys()
    bench.now += timedelta(seconds=61)
    bench.enrolled(device)
    assert state(bench, device) is State.REGISTERED
    assert bench.hear(device.telemetry(bench.now))


def test_a_reinstated_l0_waits_for_approval_of_its_very_key(bench: Bench, eve: LocalOperator) -> None:
    device = bench.enrolled(bench.l0)
    eve.revoke(device.id, "stolen")
    _, said = answer(bench.hear(device.hello(bench.now)))
    assert said["reason"] == "revoked"
    eve.reinstate(device.id, "found")
    bench.now += timedelta(seconds=61)
    _, said = answer(bench.hear(device.hello(bench.now)))
    assert (said["status"], said["reason"]) == ("pending", "awaiting-approval")

    eve.approve(device.id, "it is the one")
    device.new_keys()
    bench.now += timedelta(seconds=61)
    ((_, challenge),) = bench.hear(device.hello(bench.now))
    nonce = challenge["body"]["serverNonce"]  # type: ignore[index]
    _, body = answer(bench.hear(device.enrol(bench.now, nonce)))
    device.take(b64_der(body["deviceChain"][0]), bench.now)
    assert bench.hear(device.online(bench.now))


def test_what_is_not_out_cannot_be_reinstated(bench: Bench, eve: LocalOperator) -> None:
    device = bench.enrolled(bench.l1)
    for act in (eve.reinstate, eve.release):
        with pytest.raises(OperatorProblem, match="nothing to"):
            act(device.id, "why not")
    assert state(bench, device) is State.REGISTERED


def test_every_act_has_an_actor_and_a_reason(bench: Bench, eve: LocalOperator) -> None:
    device = bench.enrolled(bench.l1)
    eve.quarantine(device.id, "odd")
    eve.release(device.id, "explained")
    eve.revoke(device.id, "stolen")
    eve.reinstate(device.id, "found")

    acts = [link.entry for link in bench.store.history(device.id) if link.entry.actor == "operator:eve"]
    assert [(one.action, one.reason) for one in acts] == [
        ("quarantined", "odd"),
        ("released", "explained"),
        ("revoked", "stolen"),
        ("reinstated", "found"),
    ]
