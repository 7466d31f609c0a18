"""The agent replaces itself, end to end: offline keys, repository, assignment, HTTPS, slots, launcher, committed.

And what does not work never stays: the version before runs, and says why.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

import fleetward_agent
import fleetward_broker
import fleetward_schemas
from fleetward_agent import launch
from fleetward_schemas.topics import DeviceId
from fleetward_server.upgrading import UpgradeOperator
from tests.live.house import House

pytestmark = [pytest.mark.live, pytest.mark.timeout(1200)]
SOFTWARE = """
[upgrade]
health_s = 120
[[software]]
name = "agent"
installer = "agent"
folder = "slots"
soak_s = 6
"""
HANG_S = 10
"""A first start of a version compiles all of it."""
WITHIN_S = 480
MAIN = "def main(words: Sequence[str]) -> int:\n"
BROKEN = {
    "cannot-be-imported": ('"""What', 'import nothing_of_this_name\n"""What'),
    "hangs": (MAIN, MAIN + "    time.sleep(3600)\n"),
    "crashes-after-a-while": (MAIN, MAIN + "    import os, threading\n    threading.Timer(4, os.abort).start()\n"),
}


class Site:
    """A provider with a repository, and one device whose agent runs under the launcher."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder, self.house = folder, house
        (folder / "secret").write_text("correct horse battery staple\n")
        (folder / "secret").chmod(0o600)
        self.secret = ("--passphrase-file", str(folder / "secret"))
        self.tell("release", "init", "--keys", str(folder / "keys"), *self.secret)
        self.operator = UpgradeOperator(house.folder, "test")
        house.serve()
        (self.made,) = house.provision(1)
        (self.made.folder / "software.toml").write_text(SOFTWARE)
        self.slots = self.made.folder / "slots"
        source = Path(launch.__file__).read_text()
        source = source.replace(f"HANG_S = {launch.HANG_S}", f"HANG_S = {HANG_S}")
        (folder / "launch.py").write_text(source)
        self.start()
        self.working()

    def start(self) -> None:
        words = [sys.executable, "-I", str(self.folder / "launch.py"), str(self.slots), str(self.made.folder)]
        with (self.made.folder / "agent.log").open("ab") as log:
            self.launcher = subprocess.Popen(words, stderr=log)
        self.house.agents.append(self.launcher)

    def working(self) -> None:
        had = len(self.house.reports(self.made.id))
        self.house.wait(lambda: len(self.house.reports(self.made.id)) > had, "the agent reports")

    def tell(self, *words: str) -> Any:
        command = [sys.executable, "-m", "fleetward_server", *words, "--dir", str(self.house.folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else None

    def release(self, counter: int, change: tuple[str, str] = ("", "")) -> None:
        """Release a tree of the agent, with one change in what it starts at, and assign it."""
        path = self.folder / f"agent-{counter}.tar.gz"
        path.write_bytes(tree(f"0.{counter}.0", change))
        keys = ("--keys", str(self.folder / "keys"), *self.secret)
        named = ("--name", "agent", "--version", f"0.{counter}.0", "--counter", str(counter))
        self.tell("release", "quick", str(path), *named, *keys)
        self.tell("upgrade", "assign", self.made.id, "--name", "agent")

    def words(self) -> list[tuple[str, str | None]]:
        """Return what the device said of its upgrades, in order."""
        return [(step.state, step.reason) for step in self.operator.upgrade_history(DeviceId(self.made.id))]

    def wait_word(self, state: str) -> None:
        self.house.wait(lambda: state in [one for one, _ in self.words()], state, WITHIN_S)

    def agent(self) -> psutil.Process:
        """The agent's process."""
        (found,) = psutil.Process(self.launcher.pid).children()
        return found

    def slot(self) -> str:
        return self.agent().environ()[launch.SLOT]


def tree(version: str, change: tuple[str, str]) -> bytes:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for package in (fleetward_schemas, fleetward_broker, fleetward_agent):
            root = Path(package.__file__ or "").parent
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    _add(made, path, f"{root.name}/{path.relative_to(root)}", version, change)
    return out.getvalue()


def _add(made: tarfile.TarFile, path: Path, name: str, version: str, change: tuple[str, str]) -> None:
    raw = path.read_bytes()
    if name == "fleetward_agent/__init__.py":
        raw = raw.replace(b'VERSION = "0.1.0"', f'VERSION = "{version}"'.encode())
    if name == "fleetward_agent/serve.py" and change[0]:
        assert change[0].encode() in raw
        raw = raw.replace(change[0].encode(), change[1].encode(), 1)
    info = tarfile.TarInfo(name)
    info.size = len(raw)
    made.addfile(info, BytesIO(raw))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with House(tmp_path / "house", serve=False) as house:
        yield Site(tmp_path, house)


def test_an_agent_replaces_itself_and_again(site: Site) -> None:
    assert site.slot() == ""
    for counter, slot in ((2, "a"), (3, "b")):
        site.release(counter)
        site.house.wait(lambda: site.slots.joinpath(launch.CURRENT).exists(), "one is kept", WITHIN_S)
        site.house.wait(lambda slot=slot: str((site.slots / launch.CURRENT).readlink()) == slot, "it is kept", WITHIN_S)
        assert site.slot() == slot
        # The link is switched first.
        site.house.wait(lambda: not (site.slots / launch.TRIAL).exists(), "its trial is over")
        site.working()
        version = f'VERSION = "0.{counter}.0"'
        assert version in (site.slots / launch.CURRENT / "fleetward_agent" / "__init__.py").read_text()


def test_versions_that_do_not_work_are_left_and_said_to_be_unhealthy(site: Site) -> None:
    for counter, way in enumerate(BROKEN, 2):
        had = len(site.words())
        site.release(counter, BROKEN[way])
        site.house.wait(lambda had=had: ("failed", "unhealthy") in site.words()[had:], way, WITHIN_S)

        assert site.slot() == "", way
        assert not (site.slots / launch.CURRENT).exists()
        site.working()


def test_killed_at_random_moments_an_agent_runs_in_the_end(site: Site) -> None:
    chance = random.Random(os.environ.get("SEED", "11"))
    site.release(2)
    until = time.monotonic() + 15
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.5, 4))
        for process in psutil.Process(site.launcher.pid).children():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    site.wait_word("committed")
    site.working()
    assert site.slot() == "a"
