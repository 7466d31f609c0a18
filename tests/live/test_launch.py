"""The launcher: whatever a new agent does, whenever anything is killed, a version that works runs in the end."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetward_agent import launch

pytestmark = pytest.mark.live
LAUNCH = Path(launch.__file__)
WITHIN_S = 180

GOOD = """
import os, sys, time
from pathlib import Path
def main(words):
    folder = Path(words[0])
    told = os.environ
    (folder / "runs").write_text(f"{NAME} {os.getpid()} {told['FLEETWARD_SLOT']} {told.get('FLEETWARD_TRIAL')}")
    while not (folder / "stop").exists():
        time.sleep(0.01)
    word = (folder / "stop").read_text()
    (folder / "stop").unlink()
    return int(word)
"""
BAD = {
    "cannot-be-imported": "import nothing_of_this_name",
    "no-python": "def main(:",
    "ends-at-once": "def main(words): return 1",
    "crashes": "import os\ndef main(words):\n    os.abort()",
    "no-main": "",
}


class Site:
    """A folder of slots, an agent's folder, and the launcher at work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.slots = folder / "device", folder / "slots"
        self.folder.mkdir()
        self.slots.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def tree(self, slot: str, source: str) -> None:
        package = self.slots / slot / "fleetward_agent"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "serve.py").write_text(f"NAME = {slot!r}\n{source}")

    def current(self, slot: str) -> None:
        (self.slots / launch.CURRENT).symlink_to(slot)

    def tries(self, slot: str, starts: int = 0) -> None:
        launch.write(self.slots / launch.TRIAL, {"slot": slot, "starts": starts})

    def start(self, *options: str, hang_s: int = launch.HANG_S) -> None:
        source = LAUNCH.read_text().replace(f"HANG_S = {launch.HANG_S}", f"HANG_S = {hang_s}")
        source = source.replace("AFTER_DEATH_S = 1.0", "AFTER_DEATH_S = 0.05")
        (self.folder.parent / "launch.py").write_text(source)
        words = [
            sys.executable,
            "-I",
            str(self.folder.parent / "launch.py"),
            *options,
            str(self.slots),
            str(self.folder),
        ]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)

    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().split() if path.exists() else []

    def wait(self, done: Callable[[], object]) -> None:
        until = time.monotonic() + WITHIN_S
        while not done():
            assert time.monotonic() < until, f"runs {self.runs()}"
            time.sleep(0.01)

    def stop(self, code: int) -> None:
        """Have whoever runs first from now on end so, once."""
        (self.folder / "said").write_text(str(code))
        (self.folder / "said").rename(self.folder / "stop")

    def wait_runs(self, slot: str) -> None:
        self.wait(lambda: self.runs()[:1] == [slot])

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(WITHIN_S)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.tree("a", GOOD)
    made.current("a")
    yield made
    made.end()


def test_the_current_slot_is_started_and_told_where_it_is(site: Site) -> None:
    site.start()
    site.wait_runs("a")

    assert site.runs()[2:] == ["a", "None"]
    site.end()
    assert site.process is not None
    assert site.process.returncode == 128 + signal.SIGTERM


def test_a_trial_is_started_instead_and_counted(site: Site) -> None:
    site.tree("b", GOOD)
    site.tries("b")
    site.start()
    site.wait_runs("b")

    assert site.runs()[2:] == ["b", str(launch.HANG_S)]
    assert json.loads((site.slots / launch.TRIAL).read_text()) == {"slot": "b", "starts": 1}


@pytest.mark.parametrize("way", BAD)
def test_a_version_that_does_not_stay_is_given_up_after_three_starts(site: Site, way: str) -> None:
    site.tree("b", BAD[way])
    site.tries("b")
    site.start()
    site.wait_runs("a")

    assert not (site.slots / launch.TRIAL).exists()
    assert json.loads((site.slots / launch.FALLEN).read_text()) == {"slot": "b", "starts": launch.MOST_STARTS}


def test_a_version_that_hangs_is_ended_and_given_up(site: Site) -> None:
    site.tree("b", "import time\ntime.sleep(3600)")
    site.tries("b", starts=launch.MOST_STARTS - 1)
    site.start(hang_s=1)
    site.wait_runs("a")

    assert (site.slots / launch.FALLEN).exists()


def test_one_that_asks_for_it_is_started_again_in_what_is_to_run_then(site: Site) -> None:
    site.tree("b", GOOD)
    site.start()
    site.wait_runs("a")
    site.tries("b")
    site.stop(launch.AGAIN)
    site.wait_runs("b")
    assert json.loads((site.slots / launch.TRIAL).read_text())["starts"] == 1


def test_an_end_of_its_own_is_passed_on(site: Site) -> None:
    site.stop(2)
    site.start()

    assert site.process is not None
    assert site.process.wait(WITHIN_S) == 2


@pytest.mark.parametrize(
    "document", ["", "{", "[]", '{"slot": "c", "starts": 0}', '{"slot": "b"}', '{"slot": "b", "starts": "x"}']
)
def test_a_trial_that_cannot_be_read_is_none(site: Site, document: str) -> None:
    site.tree("b", GOOD)
    (site.slots / launch.TRIAL).write_text(document)
    site.start()
    site.wait_runs("a")


def test_a_trial_of_a_slot_that_is_gone_is_none(site: Site) -> None:
    site.tries("b")
    site.start()
    site.wait_runs("a")


def test_a_start_that_cannot_be_counted_is_not_made(site: Site) -> None:
    site.tree("b", GOOD)
    site.tries("b")
    (site.slots / f".{launch.TRIAL}.launch").mkdir()
    site.start()
    site.wait_runs("a")


def test_killed_at_any_moment_a_version_runs_in_the_end(site: Site) -> None:
    chance = random.Random(7)
    site.tree("b", "import time\ntime.sleep(0.2)\nraise SystemExit(1)")
    for _ in range(12):
        site.tries("b")
        site.start("--once")
        time.sleep(chance.random() * 0.2)
        assert site.process is not None
        site.process.kill()
        site.process.wait()
        (site.folder / "runs").unlink(missing_ok=True)
    site.start()
    site.wait_runs("a")


def test_with_once_the_launcher_is_the_agent(site: Site) -> None:
    site.start("--once")
    site.wait_runs("a")

    assert site.process is not None
    assert site.runs()[1] == str(site.process.pid)


def test_without_slots_what_is_installed_runs(tmp_path: Path) -> None:
    words = [sys.executable, "-I", str(LAUNCH), "--once", str(tmp_path), str(tmp_path / "none")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "fleetward-agent: " in done.stderr


@pytest.mark.parametrize("words", [[], ["one"], ["--once", "one"], ["--help", "x"]])
def test_it_says_how_it_is_called(words: list[str]) -> None:
    assert launch.main(words) == launch.USAGE
