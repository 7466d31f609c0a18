"""Promises of message ids: version 7, and strictly rising for one sender."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import Refused
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.moment import to_ms
from fleetward_schemas.receipts import Ack

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ZERO, FULL = bytes(RANDOM_BYTES), b"\xff" * RANDOM_BYTES


def test_an_id_is_version_7_and_carries_the_millisecond():
    made = UUID(next_id(NOW, None, FULL))
    assert (made.version, made.int >> 80) == (7, to_ms(NOW))
    assert made.variant == "specified in RFC 4122"


@pytest.mark.parametrize(
    "text",
    [
        "0195514E-6C00-7000-8000-000000000000",
        "0195514e-6c00-4000-8000-000000000000",
        "0195514e-6c00-7000-c000-000000000000",
        "0195514e6c0070008000000000000000",
        "{0195514e-6c00-7000-8000-000000000000}",
        "0195514e-6c00-7000-8000-000000000000\n",
        "",
    ],
)
def test_no_other_spelling_is_an_id(text):
    with pytest.raises(Refused):
        Ack.read({"ids": [text], "refused": []})


def test_the_lower_case_spelling_is_an_id():
    text = "0195514e-6c00-7000-8000-000000000000"
    assert Ack.read({"ids": [text], "refused": []}).ids == [text]


def test_a_full_counter_borrows_from_the_next_millisecond():
    last = next_id(NOW, None, ZERO)
    for _ in range(0x1000):
        last, before = next_id(NOW, last, ZERO), last
        assert last > before
    assert UUID(last).int >> 80 == to_ms(NOW) + 1


@given(st.lists(st.tuples(st.integers(-5000, 5000), st.binary(min_size=8, max_size=8)), max_size=30))
def test_ids_of_one_sender_rise_strictly_whatever_his_clock_does(steps):
    ids, now = [], NOW
    for step_ms, random in steps:
        now += timedelta(milliseconds=step_ms)
        ids.append(next_id(now, ids[-1] if ids else None, random))
    assert ids == sorted(set(ids))
    assert Ack.read({"ids": ids, "refused": []}).ids == ids
