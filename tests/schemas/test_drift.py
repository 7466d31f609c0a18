"""The oscillator's rate between two answers, and the bound in force."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.drift import (
    FULL_SPAN_US,
    LEAST_SPAN_US,
    MOST_PPM,
    NOTHING_MEASURED,
    Measuring,
    Rate,
    Sample,
    bound_ppm,
    rate_between,
)

SECOND = 1_000_000


def sample(true_us: int, boot_us: int, width_us: int = 2000) -> Sample:
    return Sample(true_us - width_us // 2, true_us + width_us // 2, boot_us)


FIRST = sample(10**15, 0)


@given(
    st.integers(-MOST_PPM, MOST_PPM),
    st.integers(700 * SECOND, 100_000 * SECOND),
    st.integers(0, 10 * SECOND),
    st.fractions(0, 1),
)
def test_the_true_rate_is_always_between_both_ends(ppm: int, true_us: int, width_us: int, where: Fraction) -> None:
    boot_us = floor(Fraction(true_us) * (SECOND + ppm) / SECOND)
    early = floor(where * width_us)
    first = Sample(0, width_us, 0)
    last = Sample(early + true_us - width_us, early + true_us + width_us, boot_us)
    rate = rate_between(first, last)

    # One microsecond of rounding in the boot clock is part of what it shows.
    slack = ceil(Fraction(SECOND, true_us))
    assert rate is None or rate.low_ppm - slack <= ppm <= rate.high_ppm + slack


@pytest.mark.parametrize(("span_us", "told"), [(LEAST_SPAN_US - 1, False), (LEAST_SPAN_US, True)])
def test_two_answers_too_close_tell_nothing(span_us: int, told: bool) -> None:
    assert (rate_between(FIRST, sample(10**15 + span_us, span_us)) is not None) is told


def test_intervals_that_overlap_tell_nothing() -> None:
    wide = Sample(0, 2 * LEAST_SPAN_US, 0)

    assert rate_between(wide, Sample(0, 3 * LEAST_SPAN_US, LEAST_SPAN_US)) is None


@pytest.mark.parametrize(
    ("rate", "bound"),
    [
        (None, 200),
        (Rate(-10, 10), 200),
        (Rate(200, 260), 200),
        (Rate(-260, -200), 200),
        (Rate(201, 260), 260),
        (Rate(-260, -201), 260),
        (Rate(-9000, -4000), MOST_PPM),
    ],
)
def test_the_configured_bound_stands_until_it_is_disproved(rate: Rate | None, bound: int) -> None:
    assert bound_ppm(200, rate) == bound


def test_a_better_measurement_takes_the_place_of_a_worse_one_and_not_the_other_way() -> None:
    measuring = NOTHING_MEASURED.taken(FIRST).taken(sample(10**15 + 700 * SECOND, 700 * SECOND))
    better = measuring.taken(sample(10**15 + 7000 * SECOND, 7000 * SECOND))
    assert measuring.rate is not None
    assert better.rate is not None
    assert better.rate.width_ppm < measuring.rate.width_ppm

    vague = sample(10**15 + 8000 * SECOND, 8000 * SECOND, 10 * SECOND)
    assert better.taken(vague) == better


def test_after_a_day_it_counts_from_the_newest_answer() -> None:
    last = sample(10**15 + FULL_SPAN_US, FULL_SPAN_US)
    measuring = NOTHING_MEASURED.taken(FIRST).taken(last)

    assert measuring == Measuring(last, measuring.rate)
    assert measuring.rate is not None


def test_a_rate_that_no_oscillator_has_is_a_lie_and_begins_anew() -> None:
    lie = sample(10**15 + 2 * LEAST_SPAN_US, LEAST_SPAN_US)

    assert NOTHING_MEASURED.taken(FIRST).taken(lie) == Measuring(lie, None)


def test_a_suspend_breaks_the_measurement_and_keeps_what_it_found() -> None:
    measuring = NOTHING_MEASURED.taken(FIRST).taken(sample(10**15 + 700 * SECOND, 700 * SECOND))

    assert measuring.broken() == Measuring(None, measuring.rate)
