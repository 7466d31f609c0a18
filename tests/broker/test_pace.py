"""Pace: a burst is free, more costs time, and time pays it back."""

from fleetward_broker.embedded.pace import Pace


def test_a_burst_is_free_and_more_costs_its_time():
    pace = Pace(10, 100, now=0.0)
    assert [pace.spend(100, 0.0), pace.spend(20, 0.0)] == [0.0, 2.0]


def test_time_pays_back_and_never_more_than_the_burst():
    pace = Pace(10, 100, now=0.0)
    pace.spend(100, 0.0)
    assert not pace.is_full(9.9)
    assert pace.is_full(1000.0)
    assert pace.spend(101, 1000.0) == 0.1


def test_no_rate_is_no_bound():
    pace = Pace(0, 1, now=0.0)
    assert pace.spend(10**9, 0.0) == 0.0
    assert pace.is_full(0.0)
