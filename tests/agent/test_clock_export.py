"""The time handed on to the host: what is said, what is never said, and what chronyd gets."""

import json
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_agent import clock_export
from fleetward_agent.__main__ import main
from fleetward_agent.clock_export import Reading, document, export, export_until, lines, shown, sock_sample, to_set_us
from fleetward_agent.state import Kept, RefusedTime, StateFile
from fleetward_agent.status import TimeUnknown
from fleetward_agent.world import BOOT_ID, boot_us, slept_us
from fleetward_schemas.clock import FAR_FUTURE_US, Clock, Saved
from tests.agent.test_main import provisioned
from tests.world import Provider

TRUE_US = 1_800_000_000_000_000
CLOCK = Clock(TRUE_US - 20_000, TRUE_US + 20_000, 1000)
READING = Reading(CLOCK, "boot", 1000, TRUE_US - 3_250_000, TRUE_US // 1000)
UNSYNCED = replace(READING, clock=replace(CLOCK, latest_us=FAR_FUTURE_US))


def test_the_document_says_the_interval_and_how_far_the_system_clock_is_off() -> None:
    said = document(READING)

    assert (said["earliest"], said["latest"]) == ("2027-01-15T07:59:59.980Z", "2027-01-15T08:00:00.020Z")
    assert (said["uncertaintyMs"], said["systemClockOffMs"], said["driftPpm"]) == (20, -3250.0, 200)


def test_while_unsynced_only_the_floor_is_said() -> None:
    said = document(UNSYNCED)

    assert said["synced"] is False
    assert {"middle", "latest", "uncertaintyMs", "systemClockOffMs"} & said.keys() == set()


def test_a_sample_is_what_chronys_source_reads() -> None:
    seconds, micros, offset, pulse, leap, _, magic = struct.unpack("@lldiiii", sock_sample(READING))

    assert seconds * 1_000_000 + micros == READING.system_us
    assert (offset, pulse, leap, magic) == (3.25, 0, 0, int.from_bytes(b"SOCK", "big"))


def test_no_sample_is_made_of_a_floor(tmp_path: Path) -> None:
    with pytest.raises(TimeUnknown):
        sock_sample(UNSYNCED)
    with pytest.raises(TimeUnknown):
        export(UNSYNCED, tmp_path / "time.json", tmp_path / "nobody")

    assert json.loads((tmp_path / "time.json").read_bytes())["synced"] is False


def test_a_listener_gets_the_sample(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "sock"))
        export(READING, None, tmp_path / "sock")

        assert listener.recv(100) == sock_sample(READING)


def test_what_is_away_is_waited_for_and_told() -> None:
    problems = iter((TimeUnknown("unknown"), ConnectionRefusedError("nobody listens"), None))
    told: list[str] = []
    stops = iter((False, False, False, True))

    def hand_on() -> None:
        problem = next(problems)
        if problem is not None:
            raise problem

    export_until(lambda: next(stops), hand_on, lambda: None, lambda event, fields: told.append(str(fields["problem"])))
    assert told == ["unknown", "nobody listens"]


@pytest.mark.parametrize(
    ("off_us", "by_us"), [(0, 0), (20_000, 0), (-20_000, 0), (20_001, -20_001), (-20_001, 20_001), (10**12, -(10**12))]
)
def test_a_system_clock_that_may_be_right_is_never_set(off_us: int, by_us: int) -> None:
    assert to_set_us(replace(READING, system_us=TRUE_US + off_us)) == by_us


def test_refused_times_are_shown_with_their_reasons() -> None:
    refused = RefusedTime(TRUE_US // 1000, "time", "stale", "delay 9000 ms: 0..5000 ms count")
    said = shown(replace(READING, refused_times=(refused,)))

    assert said["refused"] == ["2027-01-15T08:00:00.000Z time: stale: delay 9000 ms: 0..5000 ms count"]
    assert "delay 9000 ms" in lines(said)
    assert "nothing" in lines(shown(READING))


@pytest.fixture
def folder(tmp_path: Path, provider: Provider) -> Path:
    return provisioned(tmp_path, provider)


def synced(folder: Path) -> None:
    """Leave a state whose clock is true to this host's within 50 ms."""
    boot, now = boot_us(), clock_export.time.time_ns() // 1000
    kept = Saved(now - 50_000, now + 50_000, boot, 0, BOOT_ID.read_text().strip(), slept_us())
    StateFile(folder / "state").save(Kept(clock=kept, synced_ms=now // 1000))


def test_without_a_state_or_a_time_nothing_is_handed_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "time.json")
    assert main(["clock", "export", "--device", str(folder), "--file", file]) == 3
    StateFile(folder / "state").save(Kept())
    assert main(["clock", "export", "--device", str(folder), "--file", file]) == 3
    assert main(["clock", "set", "--device", str(folder)]) == 3

    assert "not known" in capsys.readouterr().err


def test_the_commands_read_the_state(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synced(folder)
    file = folder / "time.json"
    assert main(["clock", "export", "--device", str(folder), "--file", str(file)]) == 0
    assert json.loads(file.read_bytes())["synced"] is True

    assert main(["clock", "show", "--device", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert abs(said["systemClockOffMs"]) < 50
    assert said["refused"] == []


def test_a_system_clock_within_the_interval_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synced(folder)

    assert main(["clock", "set", "--device", str(folder)]) == 0
    assert "not set" in capsys.readouterr().out


def test_an_export_to_nowhere_is_a_wrong_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clock", "export", "--device", str(folder)]) == 2
    assert "--file" in capsys.readouterr().err
