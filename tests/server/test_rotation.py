"""Rotation at the server: certificates only for an open order, the same for the same keys, never a moment without."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from fleetward_schemas.commands import ResultState, Step
from fleetward_schemas.strict import b64_der
from fleetward_server import rotation
from fleetward_server.authority import Authority
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import OperatorProblem
from fleetward_server.settings import RotationTable
from fleetward_server.state import CertificateState, Command, Use
from tests.device import TestDevice
from tests.server.test_busy import Fickle
from tests.server.test_worker import Bench

DAY = timedelta(days=1)


@pytest.fixture
def authority() -> type[Fickle]:
    """Return an authority whose token can be pulled."""
    return Fickle


def ordered(bench: Bench, device: TestDevice, verb: str = "rotate-key", expires_in_s: int = 3600) -> Command:
    """Order, and let the worker send it."""
    folder = bench.store.path.parent
    with LocalOperator(folder, "eve", lambda: bench.now) as eve:
        command = eve.send_command(device.id, verb, {}, expires_in_s, "test")
    bench.worker.chores(bench.now)
    return command


def answer(sent: list[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    ((kind, message),) = sent
    return kind, message["body"]


def certified(bench: Bench, device: TestDevice, command: Command) -> dict[str, Any]:
    kind, body = answer(bench.hear(device.csr(bench.now, command.id)))
    assert kind == "certificate"
    return body


def refused(bench: Bench, *said: tuple[str, bytes]) -> list[str]:
    return [one["code"] for kind, message in bench.hear(*said) if kind == "ack" for one in message["body"]["refused"]]  # type: ignore[index]


@pytest.mark.parametrize("level", ["l1", "l0"])
def test_the_keys_change_hands(bench: Bench, level: str) -> None:
    device = bench.enrolled(getattr(bench, level))
    command = ordered(bench, device)
    body = certified(bench, device, command)
    before = {one.use: one for one in bench.store.certificates(device.id)}
    after = device.rotate(b64_der(body["deviceChain"][0]), bench.now)

    assert bench.hear(device.telemetry(bench.now)), "the old key still counts"
    bench.hear(after.online(bench.now))
    bench.hear(after.result(bench.now, command.id, ResultState.SUCCEEDED))

    assert bench.store.command(command.id).step is Step.SUCCEEDED  # type: ignore[union-attr]
    assert not bench.hear(device.telemetry(bench.now))
    assert bench.refusals(device.id) == {"unknown-signer": 1}
    states = [(one.use, one.state) for one in bench.store.certificates(device.id)]
    assert states.count((Use.DEVICE, CertificateState.CURRENT)) == 1
    assert states.count((Use.TRANSPORT, CertificateState.SUPERSEDED)) == 1
    new = next(one for one in bench.store.certificates(device.id) if one.state is CertificateState.CURRENT)
    assert new.not_before >= before[new.use].not_before
    (cut,) = bench.store.cuts()
    assert (cut.device_id, cut.kick) == (device.id, False)
    listed = {one.serial for one in bench.store.revoked_certificates(bench.now)}
    assert len(listed) == 1


def test_an_l0_may_not_enrol_by_itself_after_a_rotation_either(bench: Bench) -> None:
    device = bench.enrolled(bench.l0)
    body = certified(bench, device, ordered(bench, device))
    bench.hear(device.rotate(b64_der(body["deviceChain"][0]), bench.now).online(bench.now))

    kind, said = answer(bench.hear(device.hello(bench.now)))
    assert (kind, said["status"], said["reason"]) == ("enrolled", "pending", "awaiting-approval")


def test_the_same_keys_get_the_same_certificates_and_never_a_second_pair(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    first = certified(bench, device, command)
    assert device.last_id is not None
    again = certified(bench, device, command)
    asked = device.last_id
    same_id = bench.hear(device.csr(bench.now, command.id, message_id=asked))

    assert first == again == answer(same_id)[1]
    assert len(bench.store.certificates(device.id)) == 4


def test_one_request_never_gets_certificates_for_other_keys(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    certified(bench, device, command)
    asked = device.last_id
    held = device.device_key, device.transport_key
    device.new_keys()
    device.device_key, device.transport_key = held

    assert refused(bench, device.csr(bench.now, command.id, message_id=asked)) == ["bad-csr"]
    assert len(bench.store.certificates(device.id)) == 4


def test_nothing_is_certified_without_an_order(bench: Bench) -> None:
    l1, l0 = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    command = ordered(bench, l1)
    look = ordered(bench, l0, "collect-info")
    unknown = "0190a000-0000-7000-8000-0000000000ff"

    assert refused(bench, l1.csr(bench.now, unknown)) == ["not-allowed"]
    assert refused(bench, l0.csr(bench.now, command.id)) == ["not-allowed"], "another's order"
    assert refused(bench, l0.csr(bench.now, look.id)) == ["not-allowed"], "an order to do something else"
    bench.hear(l1.result(bench.now, command.id, ResultState.SUCCEEDED))
    assert refused(bench, l1.csr(bench.now, command.id)) == ["not-allowed"], "an order that is done"
    assert len(bench.store.certificates(l1.id)) == 2


@pytest.mark.parametrize("which", ["own", "others", "one", "swapped"])
def test_only_keys_that_are_new_to_the_fleet_and_differ(bench: Bench, which: str) -> None:
    l1, l0 = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    command = ordered(bench, l1)
    good = l1.next_keys
    l1.next_keys = {
        "own": (l1.device_key, good[1]),
        "others": (l0.device_key, good[1]),
        "one": (good[0], good[0]),
        "swapped": (l1.transport_key, l1.device_key),
    }[which]

    assert refused(bench, l1.csr(bench.now, command.id)) == ["bad-csr"]
    l1.next_keys = good
    certified(bench, l1, command)


def test_pairs_nobody_uses_are_not_certified_without_end(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    held = device.device_key, device.transport_key
    answers = []
    for _ in range(4):
        device.new_keys()
        device.device_key, device.transport_key = held
        answers.append(refused(bench, device.csr(bench.now, command.id)))

    assert answers == [[], [], [], ["not-allowed"]]


def test_a_provisionally_expired_order_is_still_answered(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device, expires_in_s=60)
    bench.now += timedelta(seconds=90)
    bench.worker.chores(bench.now)

    assert bench.store.command(command.id).step is Step.EXPIRED  # type: ignore[union-attr]
    certified(bench, device, command)


def test_silence_while_the_key_is_away(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    authority = bench.worker._authority
    assert isinstance(authority, Fickle)
    authority.away = True
    assert bench.hear(device.csr(bench.now, command.id)) == []
    authority.away = False
    certified(bench, device, command)


def test_a_flood_of_requests_is_refused(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    codes = refused(bench, *(device.csr(bench.now, command.id) for _ in range(9)))
    assert set(codes) == {"too-often"}


def test_a_newer_rotation_replaces_one_that_was_never_sent(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    folder = bench.store.path.parent
    with LocalOperator(folder, "eve", lambda: bench.now) as eve:
        older = eve.send_command(device.id, "rotate-key", {}, 3600, "")
        bench.now += timedelta(seconds=1)
        newer = eve.send_command(device.id, "rotate-key", {}, 3600, "")
        bench.worker.chores(bench.now)
        with pytest.raises(OperatorProblem, match="rotating already"):
            eve.send_command(device.id, "rotate-key", {}, 3600, "")

    assert [bench.store.command(one.id).step for one in (older, newer)] == [Step.SUPERSEDED, Step.SENT]  # type: ignore[union-attr]


def test_one_key_command_is_sent_at_a_time(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    rotate = ordered(bench, device)
    retire = ordered(bench, device, "retire")
    assert bench.store.command(retire.id).step is Step.QUEUED  # type: ignore[union-attr]
    bench.hear(device.result(bench.now, rotate.id, ResultState.FAILED))
    bench.worker.chores(bench.now)

    assert bench.store.command(retire.id).step is Step.SENT  # type: ignore[union-attr]


def test_the_server_plans_rotations_by_itself(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    plan = RotationTable(after_days=20, jitter_days=4)
    early, late = bench.now + 19 * DAY, bench.now + 24 * DAY + timedelta(minutes=2)

    assert bench.worker.plan_rotations(plan, early) == 0
    assert bench.worker.plan_rotations(RotationTable(after_days=0), late) == 0
    assert bench.worker.plan_rotations(plan, late) == 1
    assert bench.worker.plan_rotations(plan, late) == 0, "one is open"
    (command,) = bench.store.commands(device.id)
    assert (command.verb, command.actor) == ("rotate-key", "server")


def test_a_fleet_enrolled_in_one_day_is_spread_over_the_jitter() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    plan = RotationTable(after_days=20, jitter_days=4)
    found = [(f"device {number}", start) for number in range(1000)]
    daily = [len(rotation.due(found, plan, start + timedelta(days=20 + day))) for day in range(5)]  # type: ignore[arg-type]

    assert daily[0] < 5
    assert daily[-1] == 1000
    assert all(200 < later - earlier < 300 for earlier, later in pairwise(daily))


def test_quarantine_reports_and_gets_nothing(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    with LocalOperator(bench.store.path.parent, "eve", lambda: bench.now) as eve:
        eve.quarantine(device.id, "odd")
        with pytest.raises(OperatorProblem, match="takes no commands"):
            eve.send_command(device.id, "collect-info", {}, 60, "")

        assert [kind for kind, _ in bench.hear(device.telemetry(bench.now))] == ["ack"]
        assert refused(bench, device.csr(bench.now, command.id)) == ["not-allowed"]
        _, said = answer(bench.hear(device.hello(bench.now)))
        assert (said["status"], said["reason"]) == ("refused", "quarantined")
        eve.release(device.id, "explained")
    certified(bench, device, command)


def test_authority_is_not_needed_to_repeat(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    first = certified(bench, device, command)
    authority = bench.worker._authority
    assert isinstance(authority, Fickle)
    assert isinstance(authority, Authority)
    authority.away = True
    assert certified(bench, device, command) == first
