"""Promises of the replay window: no number twice, none from far below, no cost from far above."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.replay import WIDTH, ReplayWindow, next_seq


def replayed(window, number):
    with pytest.raises(Refused) as refusal:
        window.accept(number)
    return refusal.value.code is Code.REPLAYED


def test_a_number_is_accepted_once():
    window = ReplayWindow().accept(5)
    assert window.holds(5)
    assert replayed(window, 5)


def test_a_late_number_is_accepted_once():
    window = ReplayWindow().accept(5).accept(3)
    assert window == ReplayWindow(5, 0b101)
    assert replayed(window, 3)


def test_the_last_number_inside_the_window_is_taken_and_the_next_below_is_not():
    window = ReplayWindow().accept(1000)
    assert window.accept(1000 - WIDTH + 1).holds(1000 - WIDTH + 1)
    assert replayed(window, 1000 - WIDTH)


def test_below_the_window_nothing_is_held():
    assert not ReplayWindow().accept(1000).holds(1000 - WIDTH)


@pytest.mark.parametrize("number", [0, -1, -(2**60)])
def test_numbers_begin_at_one(number):
    assert replayed(ReplayWindow(), number)


def test_a_huge_jump_costs_nothing():
    window = ReplayWindow().accept(1).accept(2**53 - 1)
    assert window == ReplayWindow(2**53 - 1, 1)


@given(st.lists(st.integers(1, 400), max_size=80))
def test_no_order_of_arrival_lets_a_number_in_twice(numbers):
    window, accepted = ReplayWindow(), []
    for number in numbers:
        held = window.holds(number)
        try:
            window = window.accept(number)
        except Refused:
            assert held or number <= window.highest - WIDTH
            continue
        accepted.append(number)
    assert len(accepted) == len(set(accepted))
    assert window.highest == max(accepted, default=0)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_the_window_never_outgrows_its_width(numbers):
    window = ReplayWindow()
    for number in numbers:
        if not window.holds(number) and number > window.highest - WIDTH:
            window = window.accept(number)
    assert window.seen < 2**WIDTH
    assert window.seen & 1


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_numbers_sent_rise_strictly_even_when_time_goes_back(times):
    sent = [0]
    for now_ms in times:
        sent.append(next_seq(now_ms, sent[-1]))
    assert sent == sorted(set(sent))


def test_a_sender_that_lost_its_memory_goes_on_by_its_clock():
    assert next_seq(1_772_366_400_000, 0) == 1_772_366_400_000
