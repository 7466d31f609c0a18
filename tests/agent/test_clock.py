"""The device's clock at work: asked when the work needs it, whole through suspends, open about what did not count."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_agent.clock import DISPUTES, MOST_REFUSED, wanted_us
from fleetward_broker.line import Loss
from fleetward_schemas.clock import SLEEP_ERROR_US
from fleetward_schemas.enrol import Settings
from fleetward_schemas.moment import EPOCH, show
from fleetward_schemas.telemetry import Telemetry
from tests.agent.orders import kinds, online
from tests.world import Stage

HOUR_S = 3600


def needing(factory: Callable[[], Stage], need_ms: int, *, time_s: int = 10, drift_ppm: int = 200) -> Stage:
    """Return a device at work on a host that needs the time to within ``need_ms``."""
    stage = factory()
    stage.options = replace(stage.options, need_ms=need_ms, drift_ppm=drift_ppm)
    stage.server.settings = Settings(telemetryS=30, timeS=time_s)
    stage.server.radius_ms = 1
    stage.start()
    stage.until(lambda: online(stage), 60)
    stage.server.heard.clear()
    return stage


def true_us(stage: Stage) -> int:
    return (stage.clock.now - EPOCH) // timedelta(microseconds=1)


def holds(stage: Stage) -> bool:
    clock, boot_us = stage.device.session.clock, stage.clock.boot_us
    return clock.earliest_at(boot_us) <= true_us(stage) <= clock.latest_at(boot_us)


def half_ms(stage: Stage) -> float:
    return stage.device.session.clock.width_at(stage.clock.boot_us) / 2000


@pytest.mark.parametrize(("need_ms", "at_least", "at_most"), [(1000, 4, 7), (5000, 1, 1), (100, 50, 80)])
def test_the_time_is_asked_as_often_as_the_work_needs_and_no_oftener(
    factory: Callable[[], Stage], need_ms: int, at_least: int, at_most: int
) -> None:
    stage = needing(factory, need_ms)
    widest = 0.0
    for _ in range(6 * 60):
        stage.pass_s(60)
        widest = max(widest, half_ms(stage))

    assert at_least <= len(stage.server.said("time")) <= at_most
    assert widest <= need_ms


def test_a_server_less_sure_than_the_work_needs_is_not_asked_without_end(factory: Callable[[], Stage]) -> None:
    stage = needing(factory, 100)
    stage.server.radius_ms = 5000
    stage.pass_s(HOUR_S)

    assert 1 <= len(stage.server.said("time")) <= 3600 / 100


def test_the_servers_pace_is_kept(factory: Callable[[], Stage]) -> None:
    stage = needing(factory, 5, time_s=600)
    stage.pass_s(HOUR_S)

    assert 5 <= len(stage.server.said("time")) <= 7


def test_the_time_is_asked_first_of_all_on_a_new_line_after_an_absence(working: Stage) -> None:
    working.link.cut(Loss.UNREACHABLE)
    working.link.refuse = Loss.UNREACHABLE
    working.pass_s(1000)
    working.server.heard.clear()
    working.link.refuse = None
    working.until(lambda: online(working) and len(kinds(working)) > 1, 600)

    assert kinds(working)[:2] == ["time", "status"]


def test_a_line_that_came_back_at_once_asks_no_time(working: Stage) -> None:
    working.server.heard.clear()
    working.link.cut()
    working.until(lambda: working.server.said("status"), 60)

    assert not working.server.said("time")


@pytest.mark.parametrize("off_s", [-1.0, 0.0, 1.0])
def test_a_suspend_leaves_the_truth_inside_and_the_time_is_asked_anew(working: Stage, off_s: float) -> None:
    working.server.heard.clear()
    working.clock.suspend(2 * HOUR_S, off_s)
    working.turn()
    assert holds(working)
    assert working.device.session.clock.width_at(working.clock.boot_us) >= 2 * SLEEP_ERROR_US

    working.until(lambda: working.server.said("time") and half_ms(working) < 1000, 60)
    assert holds(working)
    assert working.device.counts["suspends"] == 1


def test_an_answer_to_a_question_from_before_a_suspend_does_not_count(working: Stage) -> None:
    working.server.silent.add("time")
    working.server.heard.clear()
    working.clock.pass_s(2 * HOUR_S)
    working.until(lambda: working.server.said("time"))
    asked = working.device.session.clock.question
    assert asked is not None
    working.clock.suspend(3, -0.9)
    working.server.tell_time(working.id, asked.nonce)
    working.turn()

    assert [one.code for one in working.device.session.refused_times] == ["bad-nonce"]


def test_a_suspend_while_the_agent_was_not_there_counts_too(working: Stage) -> None:
    working.host.shut()
    working.turn()
    working.clock.suspend(HOUR_S, 1.0)
    working.start()

    assert holds(working)


def test_what_did_not_count_is_kept_with_its_reason_and_told(working: Stage) -> None:
    for number in range(MOST_REFUSED + 2):
        working.server.tell_time(working.id, "A" * 42 + "AEIMQUYcgkosw048"[number % 16])
        working.turn()
    working.server.heard.clear()
    working.pass_s(31)

    kept = working.device.session.refused_times
    assert len(kept) == MOST_REFUSED
    assert {(one.kind, one.code) for one in kept} == {("time", "bad-nonce")}
    (telemetry,) = (one.body for one in working.server.said("telemetry"))
    assert isinstance(telemetry, Telemetry)
    assert telemetry.readings[0].metrics["clockRefused"] == MOST_REFUSED + 2


def test_refused_times_outlive_a_restart(working: Stage) -> None:
    working.server.tell_time(working.id, "A" * 43)
    working.turn()
    working.host.shut()
    working.turn()
    working.start()

    assert [one.code for one in working.device.session.refused_times] == ["bad-nonce"]


def test_a_refused_report_is_no_refused_time(working: Stage) -> None:
    working.link.send(f"fw/v1/d/{working.id}/down/ack", b"no envelope")
    working.turn()

    assert working.device.counts["refused malformed"] == 1
    assert not working.device.session.refused_times


def test_one_answer_that_contradicts_the_clock_changes_nothing(working: Stage) -> None:
    before = working.device.session.clock
    lie(working, -60)

    assert working.device.session.refused_times[-1].code == "clock-jump"
    assert working.device.session.clock.earliest_at(working.clock.boot_us) >= before.earliest_us
    assert working.device.session.clock.synced(working.clock.boot_us)


def test_a_clock_that_was_lied_ahead_waits_for_the_truth_and_recovers(working: Stage) -> None:
    lie(working, 2 * HOUR_S)
    assert not holds(working)
    earliest = working.device.session.clock.earliest_at(working.clock.boot_us)
    working.until(lambda: working.device.session.clock.held, HOUR_S)
    clock = working.device.session.clock
    assert clock.earliest_at(working.clock.boot_us) >= earliest
    working.until(lambda: holds(working) and online(working), 2 * HOUR_S + 900)

    assert working.device.session.refused_times[-1].code == "clock-jump"
    assert working.device.session.disputes == 0


def test_disputes_in_a_row_hold_the_clock_and_an_answer_between_them_clears_them(working: Stage) -> None:
    for number in range(DISPUTES):
        assert working.device.session.disputes == number
        lie(working, -60)
    assert working.device.session.clock.held

    working.until(lambda: online(working) and not working.device.session.clock.held, 400)
    assert holds(working)


def lie(stage: Stage, by_s: int) -> None:
    """Have the device asked for the time and answered with another, signed all the same."""
    stage.server.silent.add("time")
    session = stage.device.session
    stage.device._session = replace(session, synced_us=None)
    stage.server.heard.clear()
    stage.until(lambda: stage.server.said("time"), 400)
    asked = stage.device.session.clock.question
    assert asked is not None
    wrong = show(stage.clock.now + timedelta(seconds=by_s))
    stage.server.tell_time(stage.id, asked.nonce, received=wrong, sent=wrong)
    stage.server.silent.discard("time")
    stage.turn()


@pytest.mark.parametrize("drift_ppm", [-150, 150])
def test_an_oscillator_worse_than_configured_is_measured_and_its_bound_raised(
    factory: Callable[[], Stage], drift_ppm: int
) -> None:
    stage = needing(factory, 5, time_s=600, drift_ppm=10)
    assert stage.device.session.clock.bound_ppm == 10
    stage.clock.drift_ppm = drift_ppm
    stage.pass_s(3 * HOUR_S)
    stage.until(lambda: holds(stage), 900)

    clock = stage.device.session.clock
    assert clock.measuring.rate is not None
    assert clock.measuring.rate.low_ppm <= drift_ppm <= clock.measuring.rate.high_ppm
    assert 150 <= clock.bound_ppm <= 160


def test_a_good_oscillator_keeps_the_configured_bound(factory: Callable[[], Stage]) -> None:
    stage = needing(factory, 1000)
    stage.pass_s(5 * HOUR_S)

    assert stage.device.session.clock.measuring.rate is not None
    assert stage.device.session.clock.bound_ppm == 200


def test_the_next_question_is_planned_and_none_is_asked_before(working: Stage) -> None:
    session = working.device.session
    planned = wanted_us(session)
    working.server.heard.clear()
    working.pass_s((planned - working.clock.boot_us) / 1e6 - 1)
    assert not working.server.said("time")

    working.pass_s(3)
    assert working.server.said("time")
