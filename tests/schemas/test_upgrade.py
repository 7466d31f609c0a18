"""Promises of upgrades: shapes that spell nothing else, a table of phases, and no way back for a counter (C7, C8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import LocalMistake, Refused
from fleetward_schemas.upgrade import (
    MAX_ATTEMPTS,
    NEXT,
    UNDERWAY,
    Assignment,
    Event,
    Phase,
    Progress,
    Why,
    advance,
    may_advance,
    may_install,
)

EDGES = {
    ("assigned", "agreed"): "downloading",
    ("assigned", "disagreed"): "refused",
    ("assigned", "broken"): "failed",
    ("downloading", "fetched"): "staged",
    ("downloading", "broken"): "failed",
    ("staged", "begin"): "installing",
    ("staged", "broken"): "failed",
    ("installing", "installed"): "activating",
    ("installing", "broken"): "rolling-back",
    ("activating", "activated"): "checking",
    ("activating", "broken"): "rolling-back",
    ("checking", "healthy"): "committed",
    ("checking", "broken"): "rolling-back",
    ("rolling-back", "rolled-back"): "failed",
    ("failed", "again"): "assigned",
    ("failed", "exhausted"): "locked",
    ("locked", "unlock"): "assigned",
    ("refused", "again"): "assigned",
}
ALL = [(phase, event) for phase in Phase for event in Event]
RELEASE = {
    "name": "firmware",
    "target": "slap-4/firmware-1.4.2.bin",
    "counter": 7,
    "hashes": {"sha256": "A" * 43},
    "length": 1,
    "url": "https://releases.example.org/x",
}
WINDOW = {"from": "2026-01-01T00:00:00.000Z", "to": "2026-01-01T06:00:00.000Z"}
ASSIGNMENT = {"version": 1, "releases": [RELEASE], "window": WINDOW}
PROGRESS = {"assignmentVersion": 1, "name": "firmware", "state": "failed", "reason": "wrong-hash", "attempt": 1}


@pytest.mark.parametrize(("phase", "event"), [pair for pair in ALL if pair in EDGES])
def test_every_edge_leads_where_it_should(phase, event):
    assert may_advance(phase, event)
    assert advance(phase, event) == EDGES[phase, event]


@pytest.mark.parametrize(("phase", "event"), [pair for pair in ALL if pair not in EDGES])
def test_every_other_step_is_our_own_mistake(phase, event):
    assert not may_advance(phase, event)
    with pytest.raises(LocalMistake):
        advance(phase, event)


def test_from_between_two_versions_only_the_upgrades_own_end_leads_out():
    outside = {advance(phase, event) for phase in UNDERWAY for event in NEXT[phase]} - UNDERWAY
    assert outside == {Phase.COMMITTED, Phase.FAILED}


@given(st.lists(st.sampled_from(Event)))
def test_nothing_is_committed_that_was_not_fetched_installed_activated_and_healthy(events):
    phase, seen = Phase.ASSIGNED, []
    for event in events:
        if may_advance(phase, event):
            phase = advance(phase, event)
            seen.append(event)
    way = [Event.AGREED, Event.FETCHED, Event.BEGIN, Event.INSTALLED, Event.ACTIVATED, Event.HEALTHY]
    assert phase is not Phase.COMMITTED or seen[-len(way) :] == way


def test_what_ended_moves_only_by_a_new_word():
    ended = (Phase.COMMITTED, Phase.REFUSED, Phase.LOCKED)
    assert {event for phase in ended for event in NEXT[phase]} == {Event.AGAIN, Event.UNLOCK}


@given(st.integers(0, 2**52), st.integers(0, 2**52))
def test_a_counter_only_rises(counter, committed):
    assert may_install(counter, committed) == (counter > committed)


def test_an_assignment_reads_and_writes_what_the_wire_has():
    assert Assignment.read(ASSIGNMENT).document() == ASSIGNMENT


@pytest.mark.parametrize(
    "change",
    [
        {"counter": 0},
        {"counter": True},
        {"counter": 2**53},
        {"length": 0},
        {"target": "../etc/passwd"},
        {"target": "/firmware"},
        {"target": "a//b"},
        {"target": "a/.b"},
        {"target": "a\n"},
        {"url": "http://releases.example.org/x"},
        {"url": "file:///etc/passwd"},
        {"url": "https://releases.example.org/x\n"},
        {"name": "Firm Ware"},
        {"hashes": {}},
        {"hashes": {"sha256": "AA"}},
        {"hashes": {"md5": "A" * 43}},
    ],
)
def test_a_release_says_nothing_else(change):
    with pytest.raises(Refused):
        Assignment.read(ASSIGNMENT | {"releases": [RELEASE | change]})


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 2**53},
        {"releases": [RELEASE, RELEASE]},
        {"releases": [RELEASE | {"name": f"n{number}"} for number in range(9)]},
        {"window": {"from": WINDOW["to"], "to": WINDOW["from"]}},
        {"window": {"from": WINDOW["from"]}},
    ],
)
def test_an_assignment_is_whole(change):
    with pytest.raises(Refused):
        Assignment.read(ASSIGNMENT | change)


def test_a_newer_server_may_say_more():
    told = ASSIGNMENT | {"weather": "fine", "releases": [RELEASE | {"weather": "fine"}]}
    assert Assignment.read(told) == Assignment.read(ASSIGNMENT)


@pytest.mark.parametrize("reason", [None, *Why])
def test_progress_gives_a_reason_of_the_list_or_none(reason):
    assert Progress.read(PROGRESS | {"reason": reason}).reason is reason


@pytest.mark.parametrize(
    "change",
    [{"state": "maybe"}, {"reason": "the cat"}, {"note": "x"}, {"attempt": -1}, {"attempt": MAX_ATTEMPTS + 1}],
)
def test_progress_says_nothing_else(change):
    with pytest.raises(Refused):
        Progress.read(PROGRESS | change)
