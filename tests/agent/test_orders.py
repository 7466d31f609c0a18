"""Commands: written down before acting, done once, answered the same way for ever, whatever breaks."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_schemas.commands import Command, Result, ResultState
from fleetward_schemas.receipts import Ack
from tests.agent.orders import online, order, results
from tests.world import Provider, Stage


def test_collect_info_brings_signed_device_info(working: Stage) -> None:
    command = order(working, "collect-info")
    working.until(lambda: len(results(working, command)) == 2)

    assert results(working, command) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]
    assert len(working.server.said("info")) == 1


def test_sync_time_succeeds_on_an_answer_and_fails_without_one(working: Stage) -> None:
    good = order(working, "sync-time")
    working.until(lambda: len(results(working, good)) == 2)
    working.server.silent.add("time")
    bad = order(working, "sync-time")
    working.until(lambda: len(results(working, bad)) == 2, 60)

    assert results(working, good)[-1] is ResultState.SUCCEEDED
    assert results(working, bad)[-1] is ResultState.FAILED


@pytest.mark.parametrize(
    ("verb", "params", "reason"),
    [
        ("capture", {}, "unknown-command"),
        ("collect-info", {"all": 1}, "bad-params"),
        ("unlock-upgrade", {}, "bad-params"),
        ("unlock-upgrade", {"name": "firmware", "all": True}, "bad-params"),
        ("unlock-upgrade", {"name": 7}, "bad-params"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_refused_with_its_reason(
    working: Stage, verb: str, params: dict[str, object], reason: str
) -> None:
    command = order(working, verb, **params)
    working.until(lambda: results(working, command))

    (result,) = [h.body for h in working.server.said("result")]
    assert isinstance(result, Result)
    assert (result.state, result.reason) == (ResultState.REFUSED, reason)


def test_a_command_sent_twice_is_done_once_and_answered_twice(working: Stage) -> None:
    command = order(working, "collect-info")
    working.until(lambda: len(results(working, command)) == 2)
    working.server.say(working.id, command, expires=working.clock.now + timedelta(minutes=1))
    working.until(lambda: len(results(working, command)) == 3)

    assert results(working, command)[-1] is ResultState.SUCCEEDED
    assert len(working.server.said("info")) == 1


def test_a_command_that_may_have_expired_is_not_begun(working: Stage) -> None:
    working.server.silent.add("time")
    blocking = order(working, "sync-time")
    late = Command(commandId=working.server.draft(working.id, "ack", Ack(ids=[])).id, command="collect-info", params={})
    working.server.say(working.id, late, expires=working.clock.now + timedelta(seconds=20))
    working.until(lambda: len(results(working, late)) == 2, 60)

    assert results(working, late) == [ResultState.ACCEPTED, ResultState.EXPIRED]
    assert results(working, blocking)[-1] is ResultState.FAILED
    assert not working.server.said("info")


def test_a_command_accepted_before_a_crash_is_done_after_it(working: Stage) -> None:
    working.keys.broken = True
    command = order(working, "collect-info")
    working.turn()
    working.start()
    working.link.cut()
    working.keys.broken = False
    working.until(lambda: ResultState.SUCCEEDED in results(working, command), 60)

    assert len(working.server.said("info")) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(troubles=st.lists(st.sampled_from(["cut", "crash", "deaf", "hear", "order", "wait"]), min_size=3, max_size=14))
def test_whatever_breaks_every_command_gets_one_final_answer(provider: Provider, troubles: list[str]) -> None:
    stage = Stage(provider)
    stage.until(lambda: online(stage), 60)
    commands = [_trouble(stage, trouble) for trouble in troubles]
    stage.link.deaf = False
    given_orders = [command for command in commands if command is not None]
    stage.until(lambda: online(stage) and stage.parts.outbox.depth == 0 and not stage.device.session.jobs, 3600)

    for command in given_orders:
        finals = set(results(stage, command)) - {ResultState.ACCEPTED}
        assert len(finals) <= 1
        assert stage.parts.outbox.command(command.commandId) is None or len(finals) == 1


def _trouble(stage: Stage, trouble: str) -> Command | None:
    match trouble:
        case "cut":
            stage.link.cut()
        case "crash":
            stage.link.cut()
            stage.start()
        case "deaf" | "hear":
            stage.link.deaf = trouble == "deaf"
        case "order":
            return order(stage, "collect-info")
        case _:
            stage.pass_s(40)
    stage.turn()
    return None


def test_two_orders_to_sync_ask_a_second_apart(working: Stage) -> None:
    working.server.heard.clear()
    commands = [order(working, "sync-time") for _ in range(3)]
    working.until(lambda: all(len(results(working, command)) == 2 for command in commands))

    times = [h.opened.at for h in working.server.said("time")]
    assert len(times) == 3
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(times))
