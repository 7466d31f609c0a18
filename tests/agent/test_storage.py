"""When the disk refuses, nothing is acknowledged, nothing is lost, and one line says which file."""

import sqlite3
from collections.abc import Sequence
from datetime import timedelta

import pytest

from fleetward_agent.outbox import Outbox
from fleetward_agent.parts import Parts
from fleetward_agent.state import Kept, StateFile
from fleetward_agent.turn import Change
from fleetward_agent.walk import Stage as At
from fleetward_schemas.commands import Command
from fleetward_schemas.receipts import Ack
from fleetward_schemas.topics import down
from tests.world import FakeScanner, MemoryKeys, Provider, Stage


class StubbornOutbox(Outbox):
    full = False

    def commit(self, changes: Sequence[Change]) -> int:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return super().commit(changes)


class StubbornState(StateFile):
    full = False

    def save(self, kept: Kept) -> None:
        if self.full:
            raise OSError(28, "No space left on device", "state.json")
        super().save(kept)


@pytest.fixture
def stage(provider: Provider) -> Stage:
    scanner = FakeScanner(provider.origin().digital_id)
    stage = Stage(provider, parts=Parts(MemoryKeys(), scanner, StubbornState(None), StubbornOutbox(None)))
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.turn()
    return stage


def fill(stage: Stage, *, full: bool) -> None:
    stage.parts.outbox.full = stage.parts.state.full = full  # type: ignore[attr-defined]


def order(stage: Stage) -> str:
    draft = stage.server.draft(stage.id, "ack", Ack(ids=[]))
    command = Command(commandId=draft.id, command="collect-info", params={})
    stage.server.say(stage.id, command, expires=stage.clock.now + timedelta(minutes=30))
    return draft.id


def test_a_command_that_cannot_be_written_down_comes_again(stage: Stage) -> None:
    fill(stage, full=True)
    command = order(stage)
    stage.pass_s(30)
    assert down(stage.id, "command") not in stage.link.acked
    assert stage.parts.outbox.command(command) is None

    fill(stage, full=False)
    stage.until(lambda: stage.server.said("info"), 400)
    assert [h.opened.members.body["state"] for h in stage.server.said("result")] == ["accepted", "succeeded"]


def test_a_full_disk_is_one_clear_line_at_most_every_five_seconds(stage: Stage) -> None:
    fill(stage, full=True)
    stage.pass_s(60)
    lines = stage.events("storage-failed")

    assert 1 <= len(lines) <= 13
    assert all("full" in str(line["problem"]) or "space" in str(line["problem"]) for line in lines)


def test_reports_flow_again_when_there_is_room_again(stage: Stage) -> None:
    fill(stage, full=True)
    stage.pass_s(300)
    fill(stage, full=False)
    stage.server.heard.clear()

    stage.until(lambda: stage.server.said("telemetry"), 400)


def test_an_enrolment_that_cannot_be_written_down_is_not_begun(provider: Provider) -> None:
    scanner = FakeScanner(provider.origin().digital_id)
    state, keys = StubbornState(None), MemoryKeys()
    stage = Stage(provider, parts=Parts(keys, scanner, state, Outbox(None)))
    state.full = True
    stage.pass_s(120)
    assert (keys.kept, stage.server.said("enrol")) == ({}, [])

    state.full = False
    stage.until(lambda: stage.device.stage is At.WORKING, 600)


def test_a_key_that_cannot_be_opened_stops_nothing_for_good(stage: Stage) -> None:
    keys = stage.parts.keys
    assert isinstance(keys, MemoryKeys)
    stage.link.cut()
    keys.broken = True
    stage.pass_s(60)
    assert stage.events("key-unavailable")

    keys.broken = False
    stage.until(lambda: stage.device.stage is At.WORKING, 400)
