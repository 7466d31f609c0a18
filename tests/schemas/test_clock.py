"""Promises of trusted time, one by one; all of them together are in test_clock_property.py."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas import clock, moment
from fleetward_schemas.clock import Clock, Signer, TimeAnswer
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.strict import b64url

MS, SECOND = 1000, 1_000_000
NOW = moment.parse("2026-03-01T12:00:00.000Z")
NOW_US = moment.to_ms(NOW) * MS
A_MS, HOUR, DAY = timedelta(milliseconds=1), timedelta(hours=1), timedelta(days=1)
SIGNER = Signer(NOW - DAY, NOW + 6 * DAY, NOW - DAY)
NONCE = b64url(bytes(32))
ASKED = clock.ask(clock.start(NOW - 30 * DAY, 0), NONCE, 0)
SYNCED = Clock(NOW_US, NOW_US + SECOND, 0)


def answer(*, nonce=NONCE, received=NOW, sent=NOW, radius_ms=100):
    return TimeAnswer(nonce=nonce, received=moment.show(received), sent=moment.show(sent), radiusMs=radius_ms)


def refusal(function, *arguments):
    with pytest.raises(Refused) as refused:
        function(*arguments)
    return refused.value.code


def test_an_answer_gives_an_interval_of_its_delay_and_twice_the_radius():
    held = clock.accept_answer(ASKED, answer(), SIGNER, 40 * MS)
    assert (held.earliest_us, held.latest_us) == (NOW_US - 100 * MS, NOW_US + 140 * MS + 9)
    assert held.question is None


def test_an_answer_counts_once():
    held = clock.accept_answer(ASKED, answer(), SIGNER, 0)
    assert refusal(clock.accept_answer, held, answer(), SIGNER, 0) is Code.BAD_NONCE


def test_an_answer_to_another_question_does_not_count():
    asked = clock.ask(ASKED, b64url(b"\1" * 32), 0)
    assert refusal(clock.accept_answer, asked, answer(), SIGNER, 0) is Code.BAD_NONCE


@pytest.mark.parametrize(("after_us", "fine"), [(-1, False), (0, True), (5 * SECOND, True), (5 * SECOND + 1, False)])
def test_a_delay_of_0_to_5000_ms_counts(after_us, fine):
    if fine:
        assert clock.accept_answer(ASKED, answer(), SIGNER, after_us).synced(after_us)
    else:
        assert refusal(clock.accept_answer, ASKED, answer(), SIGNER, after_us) is Code.STALE


@pytest.mark.parametrize("sent", [SIGNER.not_before - A_MS, SIGNER.not_after + A_MS])
def test_a_moment_outside_the_chain_that_signed_it_is_of_a_wrong_server(sent):
    late = answer(received=sent, sent=sent)
    assert refusal(clock.accept_answer, ASKED, late, SIGNER, 0) is Code.WRONG_SERVER
    assert refusal(clock.accept_beacon, ASKED, sent, SIGNER, 0) is Code.WRONG_SERVER


@pytest.mark.parametrize("sent", [SIGNER.not_before, SIGNER.not_after])
def test_a_moment_at_the_edge_of_the_chain_counts(sent):
    assert clock.accept_answer(ASKED, answer(received=sent, sent=sent), SIGNER, 0).synced(0)


def test_a_signer_over_seven_days_older_than_the_newest_is_a_wrong_server():
    known = clock.accept_signer(SYNCED, NOW)
    assert clock.accept_signer(known, NOW - 7 * DAY) == known
    old = NOW - 7 * DAY - timedelta(microseconds=1)
    assert refusal(clock.accept_signer, known, old) is Code.WRONG_SERVER


def test_an_answer_that_contradicts_what_is_known_is_a_clock_jump():
    asked = clock.ask(SYNCED, NONCE, 0)
    past = NOW - timedelta(milliseconds=101)
    assert refusal(clock.accept_answer, asked, answer(received=past, sent=past), SIGNER, 0) is Code.CLOCK_JUMP
    edge = NOW - timedelta(milliseconds=100)
    assert clock.accept_answer(asked, answer(received=edge, sent=edge), SIGNER, 0).earliest_us == NOW_US


def test_a_newer_signer_after_an_hour_of_silence_moves_time_by_no_hour():
    hour_us = 3600 * SECOND
    asked = clock.ask(Clock(NOW_US, NOW_US + SECOND, 0), NONCE, hour_us)
    fresh = Signer(NOW + HOUR - timedelta(seconds=60), NOW + 7 * DAY, NOW + HOUR - timedelta(seconds=60))
    held = clock.accept_answer(asked, answer(received=NOW + HOUR, sent=NOW + HOUR), fresh, hour_us)
    assert held.earliest_at(hour_us) <= NOW_US + hour_us <= held.latest_at(hour_us)


def test_a_beacon_raises_earliest_and_nothing_else():
    held = clock.accept_beacon(SYNCED, NOW + timedelta(milliseconds=500), SIGNER, 0)
    assert (held.earliest_us, held.latest_us) == (NOW_US + 500 * MS, SYNCED.latest_us)


def test_an_old_beacon_changes_nothing_of_the_interval():
    held = clock.accept_beacon(SYNCED, NOW - HOUR, SIGNER, 0)
    assert (held.earliest_us, held.latest_us) == (SYNCED.earliest_us, SYNCED.latest_us)


def test_a_beacon_above_latest_makes_the_clock_ask_and_never_sets_it():
    held = clock.accept_beacon(SYNCED, NOW + HOUR, SIGNER, 0)
    assert held.earliest_us == SYNCED.earliest_us
    assert not held.synced(0)


def test_a_synced_clock_shows_its_middle_and_an_unsynced_one_its_floor():
    assert SYNCED.now(0) == NOW + timedelta(milliseconds=500)
    assert ASKED.now(0) == NOW - 30 * DAY


def test_expiry_is_judged_at_the_latest_end():
    assert SYNCED.latest(0) == NOW + timedelta(seconds=1)


def test_twenty_seconds_are_the_widest_synced_interval():
    assert Clock(NOW_US, NOW_US + 20 * SECOND, 0).synced(0)
    assert not Clock(NOW_US, NOW_US + 20 * SECOND + 1, 0).synced(0)


@pytest.mark.parametrize("boot_us", [0, 1, 999_999, 86_400 * SECOND])
def test_the_ends_hold_an_oscillator_200_ppm_fast_and_one_200_ppm_slow(boot_us):
    assert (SYNCED.earliest_at(boot_us) - NOW_US) * 1_000_200 <= boot_us * SECOND
    assert (SYNCED.latest_at(boot_us) - SYNCED.latest_us) * 999_800 >= boot_us * SECOND


def test_latest_stops_at_the_end_of_the_year_9999():
    assert ASKED.latest_at(86_400 * SECOND) == clock.FAR_FUTURE_US


def test_a_restart_within_one_boot_loses_only_the_question():
    saved = clock.save(clock.ask(SYNCED, NONCE, 0), "boot", SECOND)
    held = clock.restore(saved, NOW - 30 * DAY, "boot", 2 * SECOND)
    assert held.question is None
    assert SYNCED.width_at(2 * SECOND) <= held.width_at(2 * SECOND) <= SYNCED.width_at(2 * SECOND) + 4


@pytest.mark.parametrize(("boot_id", "boot_us"), [("other", 5 * SECOND), ("boot", SECOND - 1)])
def test_a_reboot_leaves_the_floor_alone(boot_id, boot_us):
    held = clock.restore(clock.save(SYNCED, "boot", SECOND), NOW - 30 * DAY, boot_id, boot_us)
    assert held.earliest_us == SYNCED.earliest_at(SECOND)
    assert not held.synced(boot_us)


@pytest.mark.parametrize("boot_id", ["boot", "other"])
def test_the_floor_is_the_highest_of_saved_time_newest_signer_and_build(boot_id):
    saved = clock.save(replace(clock.start(NOW, 0), signer_us=NOW_US + SECOND), "boot", 0)
    assert clock.restore(saved, NOW - DAY, boot_id, 0).earliest_us == NOW_US + SECOND
    assert clock.restore(saved, NOW + DAY, boot_id, 0).earliest_us == moment.to_ms(NOW + DAY) * MS


def test_a_first_start_knows_the_build_time_alone():
    held = clock.restore(None, NOW, "boot", 7)
    assert (held.earliest_us, held.synced(7)) == (NOW_US, False)


STOLEN = Signer(NOW - 3 * DAY, NOW + 4 * DAY, NOW - 3 * DAY)
SHIFTS_MS = st.integers(-20 * 86_400_000, 20 * 86_400_000)
HOSTILE = st.tuples(st.booleans(), SHIFTS_MS, st.integers(0, 6000), st.integers(0, 60_000))


@given(st.lists(HOSTILE, max_size=12))
def test_a_stolen_online_key_moves_time_no_further_than_its_own_end(words):
    held = clock.start(NOW - 30 * DAY, 0)
    end_us, begin_us = (moment.to_ms(at) * MS for at in (STOLEN.not_after, STOLEN.not_before))
    for is_beacon, shift_ms, late_ms, radius_ms in words:
        sent = moment.from_ms(NOW_US // MS + shift_ms)
        try:
            held = hostile(held, is_beacon, sent, late_ms, radius_ms)
        except Refused:
            continue
        assert held.earliest_us <= end_us
        assert held.latest_us >= begin_us


def hostile(held, is_beacon, sent, late_ms, radius_ms):
    if is_beacon:
        return clock.accept_beacon(held, sent, STOLEN, 0)
    received = moment.show(sent - timedelta(milliseconds=late_ms))
    answer = TimeAnswer(nonce=b64url(bytes(32)), received=received, sent=moment.show(sent), radiusMs=radius_ms)
    return clock.accept_answer(clock.ask(held, answer.nonce, 0), answer, STOLEN, late_ms * MS)
