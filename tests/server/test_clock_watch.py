"""Steps of the system clock, a source that falls silent, and when the time may be told again."""

from dataclasses import replace

import pytest

from fleetward_server.clock import Sureness
from fleetward_server.clock_watch import CALM_S, OLD_S, UNSURE_STEP_MS, Timekeeper, Watch, looked, moved

CHRONY = Sureness("chrony", 20, "measured", "100.5")
ASSUMED = Sureness("assumed", 250, "the operator's word")
AHEAD_US = 5_000_000_000
WATCH = Watch(CHRONY, 0.0, AHEAD_US)


def stepped(by_ms: int, watch: Watch = WATCH, at_s: float = 10.0) -> Watch:
    return moved(watch, watch.ahead_us + by_ms * 1000, at_s)


@pytest.mark.parametrize(("by_ms", "told"), [(0, True), (20, True), (-20, True), (21, False), (-21, False)])
def test_a_step_beyond_our_error_silences_and_one_within_does_not(by_ms: int, told: bool) -> None:
    watch = stepped(by_ms)

    assert watch.radius_ms(10.0) == (20 if told else 0)
    assert ("stepped by" in watch.trouble(10.0)) is not told


def test_slewing_is_no_step_for_it_moves_both_clocks() -> None:
    assert moved(WATCH, AHEAD_US, 10.0).step is None


@pytest.mark.parametrize(("by_ms", "step"), [(UNSURE_STEP_MS, False), (UNSURE_STEP_MS + 1, True)])
def test_a_step_is_seen_while_our_error_is_unknown_too(by_ms: int, step: bool) -> None:
    unsure = replace(WATCH, sure=replace(CHRONY, radius_ms=None))

    assert (stepped(by_ms, unsure).step is not None) is step


def test_chrony_must_measure_again_after_a_step() -> None:
    watch = looked(stepped(500), CHRONY, 11.0)
    assert watch.radius_ms(11.0) == 0
    watch = looked(watch, CHRONY, 41.0)
    assert watch.radius_ms(41.0) == 0

    assert looked(watch, replace(CHRONY, measured="164.5"), 71.0).radius_ms(71.0) == 20


def test_an_answer_that_was_asked_for_before_the_step_is_none() -> None:
    watch = stepped(500)

    assert looked(watch, replace(CHRONY, measured="164.5"), 9.9) == watch


def test_a_source_that_agrees_but_does_not_know_its_error_is_not_enough() -> None:
    watch = looked(stepped(500), CHRONY, 11.0)

    assert looked(watch, Sureness("chrony", None, "not synchronised", "164.5"), 41.0).step is not None


def test_a_second_step_begins_the_wait_anew() -> None:
    watch = stepped(-500, looked(stepped(500), CHRONY, 11.0), 20.0)

    assert watch.step is not None
    assert (watch.step.since, watch.step.by_ms) == (None, -500)


def test_an_operators_word_counts_again_after_a_minute_without_a_step() -> None:
    watch = looked(stepped(600, Watch(ASSUMED, 0.0, AHEAD_US)), ASSUMED, 11.0)
    assert watch.radius_ms(11.0) == 0
    watch = moved(watch, watch.ahead_us, 10.0 + CALM_S)
    assert watch.radius_ms(11.0) == 0

    assert moved(watch, watch.ahead_us, 10.1 + CALM_S).radius_ms(11.0) == 250


def test_a_source_that_has_not_answered_for_long_is_no_source() -> None:
    assert WATCH.radius_ms(OLD_S) == 20
    assert WATCH.radius_ms(OLD_S + 1) == 0
    assert "has not answered" in WATCH.trouble(OLD_S + 1)


def test_a_source_that_does_not_know_silences_by_its_own_word() -> None:
    watch = looked(WATCH, Sureness("chrony", None, "chrony is not synchronised"), 1.0)

    assert (watch.radius_ms(1.0), "chrony is not synchronised" in watch.trouble(1.0)) == (0, True)


def test_an_announced_leap_second_is_within_the_bound_that_names_it() -> None:
    announced = replace(WATCH, sure=replace(CHRONY, radius_ms=1020))

    assert stepped(-1000, announced).radius_ms(10.0) == 1020


def test_a_timekeeper_reads_this_hosts_clocks_and_is_in_no_doubt() -> None:
    keeper = Timekeeper(lambda: ASSUMED)

    assert not keeper.look()
    assert (keeper.radius_ms, keeper.trouble) == (250, "")
    keeper.close()


def test_a_timekeeper_tells_once_that_it_does_not_know() -> None:
    keeper = Timekeeper(lambda: Sureness("chrony", None, "chronyc: TimeoutExpired"))

    assert [keeper.look(), keeper.look()] == [True, False]
    assert (keeper.radius_ms, "TimeoutExpired" in keeper.trouble) == (0, True)
    keeper.close()
