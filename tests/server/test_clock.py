"""Time answers and what bounds our own clock's error. Source: S3."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_schemas.clock import TimeAnswer, TimeQuestion
from fleetward_schemas.moment import parse
from fleetward_server.clock import on_time, read_tracking, stamp, sureness
from fleetward_server.config import TimeTable
from fleetward_server.turn import Known, Reply
from tests.server.provider import NONCE, NOW, POLICY, Voice, ftm_speaker, said

LINE = "A9FEA97B,169.254.169.123,4,1700000000.1,{offset},0.0,0.0,1.5,0.01,0.02,{delay},{dispersion},64.0,{leap}\n"


def answer(at_us: int, policy: object = POLICY) -> Reply:
    message = replace(
        said("time", TimeQuestion(nonce=NONCE), Voice(ftm_speaker())), arrived_at=NOW + timedelta(microseconds=at_us)
    )
    (reply,) = on_time(message, Known(None), policy).replies  # type: ignore[arg-type]
    return reply


@pytest.mark.parametrize(("at_us", "received"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)])
def test_the_moment_of_receipt_is_rounded_up(at_us: int, received: int) -> None:
    body = answer(at_us).body

    assert isinstance(body, TimeAnswer)
    assert parse(body.received) == NOW + timedelta(milliseconds=received)


def test_the_moment_of_sending_is_stamped_when_it_leaves_and_rounded_down() -> None:
    left = stamp(answer(0), NOW + timedelta(microseconds=5999)).body

    assert isinstance(left, TimeAnswer)
    assert parse(left.sent) == NOW + timedelta(milliseconds=5)


def test_an_answer_carries_the_nonce_and_the_bound_of_our_error() -> None:
    body = answer(0).body

    assert isinstance(body, TimeAnswer)
    assert (body.nonce, body.radiusMs) == (NONCE, 250)


def test_a_server_that_does_not_know_its_own_error_answers_no_time() -> None:
    message = said("time", TimeQuestion(nonce=NONCE), Voice(ftm_speaker()))

    assert on_time(message, Known(None), replace(POLICY, radius_ms=0)).replies == ()


def test_an_assumed_source_says_so() -> None:
    sure = sureness(TimeTable("assumed", 250))

    assert (sure.source, sure.radius_ms) == ("assumed", 250)
    assert "not measured" in sure.detail


def test_chronys_bound_is_offset_plus_half_the_delay_plus_dispersion() -> None:
    sure = read_tracking(LINE.format(offset="-0.0101", delay="0.040", dispersion="0.005", leap="Normal"))

    assert sure.radius_ms == 36


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        LINE.format(offset="x", delay="0.1", dispersion="0.1", leap="Normal"),
        LINE.format(offset="0", delay="0", dispersion="0", leap="Not synchronised"),
        LINE.format(offset="30", delay="0", dispersion="0", leap="Normal"),
    ],
)
def test_what_cannot_bound_the_error_leaves_us_unsure(line: str) -> None:
    assert read_tracking(line).radius_ms is None


def test_a_chrony_that_is_not_there_leaves_us_unsure_and_names_the_command() -> None:
    sure = sureness(TimeTable("chrony", 250), command=("no-such-chronyc", "-c", "tracking"))

    assert sure.radius_ms is None
    assert "no-such-chronyc" in sure.detail
