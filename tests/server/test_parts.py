"""A part of what ``up`` runs: its log is bounded, it keeps nobody waiting, and does not outlive who started it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward_server import parts
from fleetward_server.parts import MOST_WAIT_S, STOP_S, Part, StartFailed, spawn

WRITES_TWICE = "import sys; sys.stderr.write('first ' * 40); sys.stderr.flush(); print(); input(); sys.exit('second')"


def test_a_long_log_begins_anew_and_what_stood_in_it_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_LOG_BYTES", 100)
    log = tmp_path / "server.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES_TWICE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    part = Part("server", process, log, 0.0)
    part.first_line()
    part.trim(1.0)
    process.communicate("\n", 120)

    assert (tmp_path / "server.log.1").read_text() == "first " * 40
    assert log.read_text() == "second\n"


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    part = spawn("server", [sys.executable, "-c", "import sys; sys.exit('a word')"], log)
    part.process.communicate(timeout=120)
    part.trim(1.0)
    assert log.read_text() == "a word\n"
    assert not (tmp_path / "server.log.1").exists()


def test_who_was_orphaned_before_it_could_be_said_ends(tmp_path: Path) -> None:
    code = "from fleetward_server.parts import _die_with; _die_with(1 << 30); print('lives')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")
    code = "import os; from fleetward_server.parts import _die_with; _die_with(os.getppid()); print('lives')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"lives\n")


SILENT = "import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); signal.pause()"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Part]]:
    """Give the parts of a test an end."""
    found: list[Part] = []
    yield found
    for part in found:
        part.process.kill()
        part.process.communicate()


def part_of(tmp_path: Path, started: list[Part], code: str, *, wanted: bool = True) -> Part:
    made = spawn("server", [sys.executable, "-c", code], tmp_path / "server.log", given_up=lambda: not wanted)
    started.append(made)
    return made


def test_a_part_that_says_nothing_is_not_waited_for_and_does_not_run(tmp_path: Path, started: list[Part]) -> None:
    part = part_of(tmp_path, started, SILENT)
    with pytest.raises(StartFailed, match="server is not there in time: it said nothing"):
        part.first_line(0.1)
    assert not part.alive
    assert part_of(tmp_path, started, "print('here')").first_line() == "here\n"


def test_a_part_that_nobody_wants_any_more_is_not_waited_for(tmp_path: Path, started: list[Part]) -> None:
    part = part_of(tmp_path, started, SILENT, wanted=False)
    with pytest.raises(StartFailed):
        part.first_line()
    assert not part.alive


def test_a_part_that_ends_without_a_word_is_told_by_its_last_ones(tmp_path: Path, started: list[Part]) -> None:
    part = part_of(tmp_path, started, "import sys; sys.exit('no room')")
    with pytest.raises(StartFailed, match="server: no room"):
        part.first_line()


def test_who_is_asked_to_end_is_pressed_later_and_followed_at_once(tmp_path: Path, started: list[Part]) -> None:
    part, now = part_of(tmp_path, started, STUBBORN), time.monotonic()
    part.first_line()
    part.ask_to_end()
    part.press(now)
    assert not part.may_follow(now)
    part.press(now + 2 * STOP_S)
    part.process.wait(120)
    assert part.may_follow(now)
    assert part.failures == 0


def test_who_ends_by_itself_is_followed_at_once_and_then_later(tmp_path: Path, started: list[Part]) -> None:
    part = part_of(tmp_path, started, "")
    part.process.wait(120)
    assert part.may_follow(part.started)
    part.again_at = None
    assert not part.may_follow(part.started)
    assert part.may_follow(part.started + MOST_WAIT_S)
    assert part.failures == 2
