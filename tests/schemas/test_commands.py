"""Promises of commands: a closed list of results, and a table of where a command may stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.commands import (
    FINAL,
    NEXT,
    OPEN,
    Command,
    Event,
    Result,
    ResultReason,
    ResultState,
    Step,
    Verb,
    advance,
    may_advance,
    takes,
)
from fleetward_schemas.errors import LocalMistake, Refused

ID = "0195514e-6c00-7000-8000-000000000000"
RESULTS = ("accepted", "succeeded", "failed", "refused", "expired")
EDGES = {
    **{(step, result): result for step in ("queued", "sent", "accepted", "expired") for result in RESULTS},
    ("queued", "send"): "sent",
    ("queued", "supersede"): "superseded",
    ("sent", "send"): "sent",
    ("accepted", "send"): "accepted",
}
ALL = [(step, event) for step in Step for event in Event]


@pytest.mark.parametrize(("step", "event"), [pair for pair in ALL if pair in EDGES])
def test_every_edge_leads_where_it_should(step, event):
    assert may_advance(step, event)
    assert advance(step, event) == EDGES[step, event]


@pytest.mark.parametrize(("step", "event"), [pair for pair in ALL if pair not in EDGES])
def test_every_other_step_is_our_own_mistake(step, event):
    assert not may_advance(step, event)
    with pytest.raises(LocalMistake):
        advance(step, event)


@given(st.lists(st.sampled_from(Event)))
def test_a_final_word_is_never_taken_back(events):
    step = Step.QUEUED
    for event in events:
        before = step
        step = advance(step, event) if may_advance(step, event) else step
        assert before not in FINAL or step is before


def test_a_signed_result_replaces_the_provisional_expired():
    assert advance(Step.EXPIRED, Event.SUCCEEDED) is Step.SUCCEEDED


def test_every_step_is_open_final_or_provisionally_expired():
    assert FINAL | OPEN | {Step.EXPIRED} == set(Step) == set(NEXT)
    assert not FINAL & OPEN


def test_every_result_moves_a_command():
    assert {state.value for state in ResultState} == {event.value for event in Event} - {"send", "supersede"}


def test_no_command_asks_for_a_capture():
    assert {verb.value for verb in Verb} == {"collect-info", "sync-time", "rotate-key", "retire", "unlock-upgrade"}


def test_an_old_agent_reads_a_command_it_does_not_know():
    newer = {"commandId": ID, "command": "new-word", "params": {"x": 1}, "new": 1}
    assert Command.read(newer).command == "new-word"


@pytest.mark.parametrize("change", [{"commandId": "1"}, {"command": "Two words"}, {"params": []}, {"params": None}])
def test_a_command_is_a_word_with_members(change):
    with pytest.raises(Refused):
        Command.read({"commandId": ID, "command": "sync-time", "params": {}} | change)


@pytest.mark.parametrize("reason", [None, *ResultReason])
def test_a_result_gives_a_reason_of_the_list_or_none(reason):
    assert Result.read({"commandId": ID, "state": "failed", "reason": reason}).reason is reason


@pytest.mark.parametrize("change", [{"state": "maybe"}, {"reason": "the cat"}, {"reason": ""}, {"note": "x"}])
def test_a_result_says_nothing_else(change):
    with pytest.raises(Refused):
        Result.read({"commandId": ID, "state": "failed", "reason": None} | change)


@pytest.mark.parametrize(
    ("verb", "params", "whole"),
    [
        ("unlock-upgrade", {"name": "firmware"}, True),
        ("unlock-upgrade", {}, False),
        ("unlock-upgrade", {"name": "firmware", "force": True}, False),
        ("unlock-upgrade", {"name": "Two words"}, False),
        ("unlock-upgrade", {"name": None}, False),
        ("retire", {}, True),
        ("retire", {"name": "firmware"}, False),
    ],
)
def test_a_command_takes_its_own_parameters_and_no_other(verb: str, params: dict[str, object], whole: bool) -> None:
    assert takes(Verb(verb), params) is whole
