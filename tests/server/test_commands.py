"""Commands at the server. Source: S4; protocol section 5 "Commands"."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_schemas.commands import Result, ResultReason, ResultState, Step
from fleetward_schemas.enrol import State
from fleetward_server import commands
from fleetward_server.changes import AddAudit, AddReport, PutCommand
from fleetward_server.state import Command
from fleetward_server.turn import Turn
from tests.server.provider import DEVICE_ID, ID, NOW, POLICY, Voice, device, device_speaker, known, said

COMMAND = Command(ID, DEVICE_ID, "sync-time", "{}", Step.SENT, "operator:ann", "why", NOW, NOW + timedelta(hours=1))


def result(state: ResultState, command: Command | None, reason: ResultReason | None = None) -> Turn:
    message = said("result", Result(commandId=ID, state=state, reason=reason), Voice(device_speaker()))
    return commands.on_result(message, known(command=command), POLICY)


def step(turn: Turn) -> Step | None:
    return next((c.command.step for c in turn.changes if isinstance(c, PutCommand)), None)


@pytest.mark.parametrize("state", list(ResultState))
def test_a_signed_result_moves_the_command_and_is_acknowledged(state: ResultState) -> None:
    turn = result(state, COMMAND)

    assert step(turn) == Step(state.value)
    assert turn.acks == (ID,)


def test_a_signed_result_replaces_a_provisional_expiry() -> None:
    turn = result(ResultState.SUCCEEDED, replace(COMMAND, step=Step.EXPIRED))

    assert step(turn) is Step.SUCCEEDED


@pytest.mark.parametrize("final", [Step.SUCCEEDED, Step.FAILED, Step.REFUSED])
def test_a_word_after_the_final_one_is_stored_and_changes_nothing(final: Step) -> None:
    turn = result(ResultState.ACCEPTED, replace(COMMAND, step=final))

    assert step(turn) is None
    assert [type(c) for c in turn.changes if isinstance(c, AddReport)] == [AddReport]


def test_a_result_of_another_devices_command_changes_no_command() -> None:
    turn = result(ResultState.SUCCEEDED, replace(COMMAND, device_id="b" * 26))

    assert step(turn) is None


def test_a_result_of_a_command_nobody_gave_is_stored_and_acknowledged() -> None:
    turn = result(ResultState.SUCCEEDED, None)

    assert turn.acks == (ID,)


def test_a_failure_keeps_the_devices_own_word_and_stands_in_the_audit() -> None:
    turn = result(ResultState.FAILED, COMMAND, ResultReason.CLOCK)

    (put,) = [c for c in turn.changes if isinstance(c, PutCommand)]
    (audit,) = [c for c in turn.changes if isinstance(c, AddAudit)]
    assert put.command.last_reason == "clock"
    assert (audit.entry.action, audit.entry.reason) == ("command-failed", "clock")


def test_a_command_is_sent_again_under_the_same_id_and_digital_id() -> None:
    row = device(state=State.REGISTERED, digital_id="its.current.id")

    first, second = commands.send(COMMAND, row, NOW), commands.send(COMMAND, row, NOW + timedelta(minutes=1))

    assert first.replies == second.replies
    assert (first.replies[0].message_id, first.replies[0].digital_id) == (ID, "its.current.id")


def test_a_command_waits_for_a_device_that_was_never_online() -> None:
    assert commands.send(COMMAND, device(), NOW) == Turn()


def test_a_command_nobody_answered_expires() -> None:
    turn = commands.expire(COMMAND, NOW)

    assert step(turn) is Step.EXPIRED
