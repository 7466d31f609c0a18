"""A part of what ``up`` runs: its log is bounded, and it does not outlive who started it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fleetward_server import parts
from fleetward_server.parts import Part, spawn

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
    process.communicate("\n", 20)

    assert (tmp_path / "server.log.1").read_text() == "first " * 40
    assert log.read_text() == "second\n"


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    part = spawn("server", [sys.executable, "-c", "import sys; sys.exit('a word')"], log)
    part.process.communicate(timeout=20)
    part.trim(1.0)
    assert log.read_text() == "a word\n"
    assert not (tmp_path / "server.log.1").exists()


def test_who_was_orphaned_before_it_could_be_said_ends(tmp_path: Path) -> None:
    code = "from fleetward_server.parts import _die_with; _die_with(1 << 30); print('lives')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, b"")
    code = "import os; from fleetward_server.parts import _die_with; _die_with(os.getppid()); print('lives')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"lives\n")
