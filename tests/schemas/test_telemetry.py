"""Promises of telemetry: finite numbers under names of a closed list, and nothing beside them (C9, C10)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import Refused
from fleetward_schemas.telemetry import MAX_READINGS, METRICS, Reading, Telemetry

GOOD = {"observedAt": "2026-03-01T12:00:00.000Z", "uncertaintyMs": 40, "metrics": {"uptimeS": 1}}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_taken_at_both_its_ends(name):
    low, high, meaning = METRICS[name]
    for value in (low, high):
        assert Reading.read(GOOD | {"metrics": {name: value}})
    assert meaning


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_refused_beyond_its_ends(name):
    low, high, _ = METRICS[name]
    for value in (low - 1, high * 1.01 + 1, math.nan, math.inf, -math.inf):
        with pytest.raises(Refused):
            Reading.read(GOOD | {"metrics": {name: value}})


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {}},
        {"metrics": {"uptimeS": "1"}},
        {"metrics": {"uptimeS": True}},
        {"metrics": {"uptimeS": None}},
        {"metrics": {"uptimeS": [1]}},
        {"metrics": {"uptimes": 1}},
        {"uncertaintyMs": -1},
        {"uncertaintyMs": 1.5},
        {"uncertaintyMs": 10**9 + 1},
        {"observedAt": "now"},
        {"image": ""},
    ],
)
def test_a_reading_says_nothing_else(change):
    with pytest.raises(Refused):
        Reading.read(GOOD | change)


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(list(METRICS)), st.floats() | st.integers(), max_size=3))
def test_no_reading_holds_a_name_or_a_number_outside_the_list(metrics):
    try:
        reading = Reading.read(GOOD | {"metrics": metrics})
    except Refused:
        return
    for name, value in reading.metrics.items():
        assert METRICS[name][0] <= value <= METRICS[name][1]


def test_one_to_a_hundred_readings_go_under_one_signature():
    assert Telemetry.read({"readings": [GOOD] * MAX_READINGS})
    for readings in ([], [GOOD] * (MAX_READINGS + 1)):
        with pytest.raises(Refused):
            Telemetry.read({"readings": readings})
