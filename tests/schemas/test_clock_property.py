"""The clock's promise, against an unkind world: true time is inside the interval, always, and the interval is narrow.

The world is in clock_world.py. Each planted mistake must break the promise there, else the world is too kind.
"""

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_schemas import clock, moment
from fleetward_schemas.clock import Question
from tests.schemas.clock_world import MS, STARTS, Broken, Functions, World

FOUND_WITHIN = 60
"""Runs in which every planted mistake is found; the seeds are fixed."""


def live(functions, seed, **about):
    world = World(functions, seed, **about)
    world.run(60)
    if world.thief:
        world.recover()
    return world


def live_all(functions, *, thief=False, runs=FOUND_WITHIN):
    """Live through the fixed seeds; return how often the promise was looked at."""
    starts = itertools.cycle(STARTS)
    drifts = itertools.cycle((-200, 200))
    worlds = [live(functions, seed, drift_ppm=next(drifts), start=next(starts), thief=thief) for seed in range(runs)]
    return sum(world.checks for world in worlds)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(STARTS),
    st.sampled_from([-200, 200]) | st.integers(-200, 200),
    st.sampled_from([0, 1, 250, 5000]),
)
def test_true_time_is_always_inside_a_narrow_interval_that_never_runs_backwards(seed, start, drift_ppm, radius_ms):
    live(Functions(), seed, start=start, drift_ppm=drift_ppm, radius_ms=radius_ms)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(STARTS), st.integers(-200, 200))
def test_a_thief_of_one_online_key_moves_time_no_further_than_its_end_and_the_truth_comes_back(seed, start, drift_ppm):
    live(Functions(), seed, start=start, drift_ppm=drift_ppm, thief=True)


def test_the_world_is_kind_enough_that_answers_count():
    worlds = [live(Functions(), seed) for seed in range(20)]
    assert sum(world.accepted for world in worlds) > 100
    assert sum(world.boots for world in worlds) > 20
    assert sum(world.suspends for world in worlds) > 20
    assert sum(live(Functions(), seed, thief=True).lied for seed in range(20)) > 10


def a_millisecond_too_early(held, answer, signer, boot_us):
    after = clock.accept_answer(held, answer, signer, boot_us)
    return replace(after, earliest_us=after.earliest_us + MS)


def any_answer_will_do(held, answer, signer, boot_us):
    question = held.question or Question("", boot_us)
    return clock.accept_answer(
        replace(held, question=Question(answer.nonce, question.boot_us)), answer, signer, boot_us
    )


def a_beacon_sets(held, timestamp, signer, boot_us):
    clock.accept_beacon(held, timestamp, signer, boot_us)
    at_us = moment.to_ms(timestamp) * MS
    return replace(held, earliest_us=at_us, latest_us=at_us, boot_us=boot_us)


def a_beacon_from_the_middle(held, timestamp, signer, boot_us):
    return clock.accept_beacon(held, timestamp + timedelta(milliseconds=250), signer, boot_us)


def no_floor_is_saved(held, boot_id, boot_us):
    return replace(clock.save(held, boot_id, boot_us), earliest_us=0, signer_us=0)


def the_interval_survives_a_reboot(saved, built, boot_id, boot_us, *, slept_us=0):
    kept = saved and replace(saved, boot_id=boot_id, boot_us=boot_us, slept_us=slept_us)
    return clock.restore(kept, built, boot_id, boot_us, slept_us=slept_us)


def a_suspend_taken_for_exact(held, boot_us, slept_us):
    return replace(held, slept_us=slept_us, question=None)


def a_question_that_outlives_a_suspend(held, boot_us, slept_us):
    return replace(clock.wake(held, boot_us, slept_us), question=held.question)


def nothing_is_held(held, boot_us):
    return held


def no_upper_end(held, answer, signer, boot_us):
    return replace(clock.accept_answer(held, answer, signer, boot_us), latest_us=clock.FAR_FUTURE_US)


def a_floor_on_an_old_anchor(held, answer, signer, boot_us):
    floor_us = moment.to_ms(signer.leaf_not_before) * MS
    return clock.accept_answer(replace(held, earliest_us=max(held.earliest_us, floor_us)), answer, signer, boot_us)


def no_drift(held, answer, signer, boot_us):
    return replace(clock.accept_answer(held, answer, signer, boot_us), drift_ppm=0)


OUTSIDE, BACKWARDS, WIDE, REFUSED = "outside", "backwards", "wider", "answer was refused"
MISTAKES = {
    "off by one millisecond": (Functions(accept_answer=a_millisecond_too_early), OUTSIDE),
    "no nonce check": (Functions(accept_answer=any_answer_will_do), f"{OUTSIDE}|{WIDE}"),
    "a beacon that sets the clock": (Functions(accept_beacon=a_beacon_sets), OUTSIDE),
    "a beacon stamped in the middle": (Functions(accept_beacon=a_beacon_from_the_middle), f"{OUTSIDE}|{WIDE}"),
    "no floor at reboot": (Functions(save=no_floor_is_saved), BACKWARDS),
    "an interval that survives a reboot": (Functions(restore=the_interval_survives_a_reboot), OUTSIDE),
    "an infinite interval": (Functions(accept_answer=no_upper_end), WIDE),
    "a floor on an old anchor": (Functions(accept_answer=a_floor_on_an_old_anchor), REFUSED),
    "an oscillator taken for perfect": (Functions(accept_answer=no_drift), OUTSIDE),
    "a suspend taken for exact": (Functions(wake=a_suspend_taken_for_exact), OUTSIDE),
    "a question that outlives a suspend": (Functions(wake=a_question_that_outlives_a_suspend), OUTSIDE),
}


@pytest.mark.parametrize(("mistake", "promise"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_planted_mistake_is_found(mistake, promise):
    with pytest.raises(Broken, match=promise):
        live_all(mistake)


def test_a_clock_that_is_never_held_stays_where_the_thief_put_it():
    with pytest.raises(Broken, match="never recovers"):
        live_all(Functions(hold=nothing_is_held), thief=True)


@pytest.mark.parametrize("thief", [False, True])
def test_ten_thousand_times_without_a_mistake_nothing_is_found(thief):
    assert live_all(Functions(), thief=thief, runs=2 * FOUND_WITHIN) >= 10_000
