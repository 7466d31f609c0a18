"""Promises of the table of kinds: closed, and without a word for anything biometric (S8, C9, C10)."""

import pytest

from fleetward_schemas.messages import KINDS
from fleetward_schemas.shapes import DownBody, UpBody
from fleetward_schemas.topics import Direction, Role, fleet, read_topic, release

REPORTS = {"telemetry", "info", "result", "alert", "progress"}


def test_these_are_all_the_kinds_there_are():
    names = {direction: {kind for side, kind in KINDS if side is direction} for direction in Direction}
    assert names == {
        Direction.UP: {"time", "hello", "enrol", "csr", "status"} | REPORTS,
        Direction.DOWN: {"time", "challenge", "enrolled", "ack", "command", "certificate", "encryption", "assignment"},
        Direction.FLEET: {"beacon", "release"},
        Direction.VIEW: set(),
    }


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: f"{kind.direction}-{kind.name}")
def test_uplink_is_closed_and_downlink_forgives(kind):
    assert issubclass(kind.body, UpBody if kind.direction is Direction.UP else DownBody)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: f"{kind.direction}-{kind.name}")
def test_a_kinds_name_is_a_level_of_a_topic(kind):
    topic = release("timestamp") if kind.name == "release" else fleet(kind.name)
    assert read_topic(topic).kind == kind.name


def test_reports_are_uplink_and_last_a_week():
    reports = {kind.name: kind for kind in KINDS.values() if kind.report}
    assert reports.keys() == REPORTS
    assert all(kind.direction is Direction.UP and kind.max_age_s == 604_800 for kind in reports.values())


def test_a_factory_principal_may_only_ask_the_time_and_enrol():
    said = {(kind.direction, kind.name) for kind in KINDS.values() if Role.FACTORY in kind.principals}
    assert {name for direction, name in said if direction is Direction.UP} == {"time", "hello", "enrol"}
    assert {name for direction, name in said if direction is Direction.DOWN} == {"time", "challenge", "enrolled"}


def test_only_what_a_nonce_or_its_own_version_binds_goes_without_a_number():
    assert {kind.name for kind in KINDS.values() if kind.nonce_bound} == {
        "time",
        "hello",
        "enrol",
        "challenge",
        "enrolled",
        "release",
    }


def test_only_a_command_expires():
    assert [kind.name for kind in KINDS.values() if kind.expires] == ["command"]
