"""Time answers and what bounds our own clock's error. Source: S3."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_schemas.clock import TimeAnswer, TimeQuestion
from fleetward_schemas.moment import parse
from fleetward_schemas.receipts import Ack
from fleetward_server.clock import not_by_nts, on_time, read_tracking, stamp, sureness, tellable
from fleetward_server.settings import TimeTable
from fleetward_server.turn import Known, Reply
from tests.server.provider import NONCE, NOW, POLICY, Voice, ftm_speaker, said

LINE = "A9FEA97B,169.254.169.123,4,1700000000.1,{offset},0.0,0.0,1.5,0.01,0.02,{delay},{dispersion},64.0,{leap}\n"


def answer(at_us: int, policy: object = POLICY) -> Reply:
    question = said("time", TimeQuestion(nonce=NONCE), Voice(ftm_speaker()))
    message = question._replace(arrived_at=NOW + timedelta(microseconds=at_us))
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

    assert sure.radius_ms == 37


@pytest.mark.parametrize("leap", ["Insert second", "Delete second"])
def test_an_announced_leap_second_widens_the_bound_by_a_second_and_is_named(leap: str) -> None:
    sure = read_tracking(LINE.format(offset="-0.0101", delay="0.040", dispersion="0.005", leap=leap))

    assert sure.radius_ms == 1037
    assert leap.lower() in sure.detail


def test_no_time_is_told_once_our_own_error_is_unknown_and_all_else_is() -> None:
    time, other = answer(0), replace(answer(0), body=Ack(ids=[]))

    assert tellable([time, other], 250) == [time, other]
    assert tellable([time, other], 0) == [other]


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
    sure = sureness(TimeTable("chrony", 250), ("no-such-chronyc", "-c"))

    assert sure.radius_ms is None
    assert "no-such-chronyc" in sure.detail


SOURCES = "^,*,198.51.100.1,2,6,377,12,0.1,0.1,0.2\n^,{other},198.51.100.2,2,6,377,12,0.1,0.1,0.2\n"
AUTHDATA = "198.51.100.1,NTS,1,15,256,11,0,0,8,100\n198.51.100.2,-,0,0,0,4294967295,0,0,0,0\n"


@pytest.mark.parametrize(
    ("sources", "authdata", "why"),
    [
        (SOURCES.format(other="-"), AUTHDATA, ""),
        (SOURCES.format(other="+"), AUTHDATA, "198.51.100.2"),
        (SOURCES.format(other="-"), "", "198.51.100.1"),
        ("#,*,PPS0,0,4,377,12,0.1,0.1,0.2\n", "", ""),
        ("^,?,198.51.100.1,0,6,0,4294967295,0.1,0.1,0.2\n", AUTHDATA, "no source"),
        ("", AUTHDATA, "no source"),
        ("nonsense\n", "nonsense\n", "no source"),
    ],
)
def test_the_time_is_by_nts_when_every_source_in_use_is_or_is_the_hosts_own(
    sources: str, authdata: str, why: str
) -> None:
    found = not_by_nts(sources, authdata)

    assert why in found
    assert bool(found) is bool(why)
