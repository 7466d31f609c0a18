"""Promises of moments: one spelling each, and never a rounding up."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas import moment
from fleetward_schemas.errors import Code, LocalMistake, Refused

ANY = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00.000+00:00",
        "2026-03-01T12:00:00.000z",
        "2026-03-01 12:00:00.000Z",
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00.0000Z",
        "2026-03-01T12:00:00,000Z",
        "2026-03-01T24:00:00.000Z",
        "2026-03-01T23:59:60.000Z",
        "2026-02-29T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "20260301T120000.000Z",
        "2026-03-01T12:00:00.000Z\n",
        "٢٠٢٦-03-01T12:00:00.000Z",
        "",
    ],
)
def test_every_other_spelling_is_malformed(text):
    with pytest.raises(Refused) as refusal:
        moment.parse(text)
    assert refusal.value.code is Code.MALFORMED


def test_the_one_spelling_is_read():
    assert moment.parse("2026-03-01T12:00:00.007Z") == datetime(2026, 3, 1, 12, 0, 0, 7000, UTC)


def test_a_digital_id_may_leave_the_milliseconds_out():
    assert moment.parse_loose("2026-03-01T12:00:00Z") == moment.parse_loose("2026-03-01T12:00:00.000Z")


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:00:00", "2026-03-01T12:00:0Z", "2026-03-01T12:00:00.00Z", "2026-03-01"]
)
def test_a_digital_id_may_leave_nothing_else_out(text):
    with pytest.raises(Refused):
        moment.parse_loose(text)


def test_the_year_has_four_digits_always():
    assert moment.show(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00.000Z"
    assert moment.show_seconds(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00Z"


def test_another_zone_is_shown_in_utc():
    at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert moment.show(at) == "2026-03-01T06:30:00.000Z"


@pytest.mark.parametrize("show", [moment.show, moment.show_seconds])
def test_a_moment_without_a_zone_is_our_mistake(show):
    with pytest.raises(LocalMistake):
        show(datetime(2026, 3, 1))


@given(ANY)
def test_showing_never_rounds_up(at):
    assert timedelta(0) <= at - moment.parse(moment.show(at)) < timedelta(milliseconds=1)


@given(ANY)
def test_one_moment_has_one_spelling(at):
    text = moment.show(at)
    assert moment.show(moment.parse(text)) == text


@given(st.text(alphabet="0123456789-T:.Z+ ", min_size=20, max_size=26))
def test_nothing_is_read_that_is_not_shown_the_same(text):
    try:
        at = moment.parse(text)
    except Refused:
        return
    assert moment.show(at) == text


@given(st.integers(-(10**13), 10**14))
def test_milliseconds_come_back(ms):
    assert moment.to_ms(moment.from_ms(ms)) == ms


@given(st.integers(1, 999), st.integers(0, 10**12))
def test_milliseconds_are_rounded_down(us, ms):
    assert moment.to_ms(moment.from_ms(ms) + timedelta(microseconds=us)) == ms
