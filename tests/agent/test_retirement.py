"""Retirement at the device: one last word, and nothing left to speak with."""

from datetime import timedelta

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.commands import Command, ResultState
from fleetward_schemas.enrol import Enrolled, Reason
from tests.agent.orders import online, order, results
from tests.world import Stage


def bare(stage: Stage) -> bool:
    kept = stage.device.session.kept
    return kept.gone is not None and kept.gone.reason == "retired" and not kept.doomed


def nothing_left(stage: Stage) -> None:
    kept = stage.device.session.kept
    assert (kept.pair, kept.previous, kept.candidate, kept.order) == (None, None, None, None)
    assert not stage.keys.kept
    assert stage.parts.outbox.depth == 0
    assert stage.device.stage is At.RESTING


def test_after_its_last_word_a_device_has_no_key(working: Stage) -> None:
    command = order(working, "retire")
    working.until(lambda: bare(working), 60)

    assert results(working, command) == [ResultState.SUCCEEDED]
    nothing_left(working)


def test_nothing_but_time_status_and_the_result_leaves_it(working: Stage) -> None:
    working.server.silent.add("result")
    order(working, "retire")
    working.until(lambda: working.server.said("result"))
    working.server.heard.clear()
    working.device.parts.outbox.commit([])
    late = order(working, "collect-info")
    working.pass_s(120)

    assert {h.opened.kind.name for h in working.server.heard} <= {"time", "status", "result"}
    assert len({h.opened.id for h in working.server.said("result")}) <= 1
    assert not results(working, late)


def test_reports_that_waited_are_never_sent(working: Stage) -> None:
    working.link.deaf = True
    working.pass_s(95)
    assert working.parts.outbox.depth > 0
    order(working, "retire")
    working.turn()
    working.link.deaf = False
    working.server.heard.clear()
    working.until(lambda: bare(working), 120)

    assert not working.server.said("telemetry")


def test_unheard_it_ends_when_its_time_is_over(working: Stage) -> None:
    working.server.silent.add("result")
    order(working, "retire", minutes=5)
    working.pass_s(200)
    assert working.keys.kept
    working.until(lambda: bare(working), 200)

    nothing_left(working)


def test_unheard_it_ends_when_tls_refuses_it(working: Stage) -> None:
    working.server.silent.add("result")
    order(working, "retire", minutes=600)
    working.pass_s(10)
    working.link.refuse = Loss.TLS_REFUSED
    working.link.cut()
    working.until(lambda: bare(working), 600)

    nothing_left(working)


def test_another_loss_is_no_refusal(working: Stage) -> None:
    working.server.silent.add("result")
    order(working, "retire", minutes=600)
    working.pass_s(10)
    working.link.refuse = Loss.UNREACHABLE
    working.link.cut()
    working.pass_s(600)

    assert working.keys.kept


@pytest.mark.parametrize("stop", range(1, 30))
def test_a_crash_after_any_turn_changes_nothing(stage: Stage, stop: int) -> None:
    stage.until(lambda: online(stage), 60)
    command = order(stage, "retire")
    for turn in range(stop):
        stage.turn(0.05 if turn % 2 else 1.0)
    stage.link.cut()
    stage.start()
    stage.until(lambda: bare(stage), 1200)

    assert set(results(stage, command)) == {ResultState.SUCCEEDED}
    assert len({h.opened.id for h in stage.server.said("result")}) == 1
    nothing_left(stage)


def test_it_asks_daily_and_comes_back_when_reinstated(working: Stage) -> None:
    order(working, "retire")
    working.until(lambda: bare(working), 60)
    env = working.provider.env
    working.server.enrolled_as = lambda: Enrolled(status="refused", reason=Reason.RETIRED, retryAfterS=86_400, env=env)
    working.server.heard.clear()
    working.pass_s(2 * 86_400)
    assert 1 <= len({h.opened.id for h in working.server.said("hello")}) <= 2
    working.server.enrolled_as = None
    working.until(lambda: online(working), 2 * 86_400)


def test_a_second_order_to_retire_is_not_answered(working: Stage) -> None:
    working.server.silent.add("result")
    command = order(working, "retire")
    working.until(lambda: working.server.said("result"))
    again = Command(commandId=command.commandId, command="retire", params={})
    working.server.say(working.id, again, expires=working.clock.now + timedelta(minutes=10))
    working.pass_s(5)

    assert len({h.opened.id for h in working.server.said("result")}) == 1
