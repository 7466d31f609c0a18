"""A simulated scanner shows the firmware that was installed, and fails as its package says."""

from pathlib import Path
from threading import Event, Timer

import pytest

from fleetward_agent.installers import Broken, Package, Place
from fleetward_sandbox.installer import SimulatedInstaller, firmware_in
from fleetward_sandbox.scanner import FIRMWARE, SimulatedScanner
from fleetward_sandbox.vector_pki import IDENTITY_A
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.upgrade import Why
from tests.agent.packages import package


class Sim:
    """A scanner, its installer, and both again after a start."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, folder / "work", Event())
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.scanner = SimulatedScanner(IDENTITY_A, 0.0, lambda: 0.0)
        self.installer = SimulatedInstaller(self.place, self.scanner)

    def upgrade(self, text: str, counter: int = 2) -> Package:
        made = package(self.folder, text.encode(), counter)
        for step in ("install", "activate", "check", "settle"):
            getattr(self.installer, step)(made)
        return made

    @property
    def firmware(self) -> str:
        return self.scanner.read().firmware


@pytest.fixture
def sim(tmp_path: Path) -> Sim:
    return Sim(tmp_path)


@pytest.mark.parametrize(("text", "version"), [("2.5.0\nbytes", "2.5.0"), ("bytes of no version", "r2"), ("\n", "r2")])
def test_the_scanner_shows_what_was_installed_also_after_a_start(sim: Sim, text: str, version: str) -> None:
    assert sim.firmware == FIRMWARE == firmware_in(sim.place.work)
    sim.upgrade(text)
    assert sim.firmware == version
    sim.start()
    assert sim.firmware == version == firmware_in(sim.place.work)


@pytest.mark.parametrize("word", ["FAIL-INSTALL", "FAIL-ACTIVATE", "FAIL-HEALTH"])
def test_what_fails_goes_back(sim: Sim, word: str) -> None:
    sim.upgrade("2.5.0\n")
    with pytest.raises(Broken):
        sim.upgrade(f"2.6.0\n{word}", 3)
    sim.installer.roll_back(package(sim.folder, f"2.6.0\n{word}".encode(), 3))
    assert sim.firmware == "2.5.0"


def test_what_fails_once_is_well_at_the_second_attempt(sim: Sim) -> None:
    for _ in range(3):
        with pytest.raises(Broken):
            sim.upgrade("2.6.0\nFAIL-ONCE")
    sim.installer.roll_back(package(sim.folder, b"2.6.0\nFAIL-ONCE"))
    sim.upgrade("2.6.0\nFAIL-ONCE")
    assert sim.firmware == "2.6.0"


def test_a_scanner_may_fall_silent_and_come_back(sim: Sim) -> None:
    made = sim.upgrade("2.6.0\nNOT-READY")
    assert sim.scanner.read().status is DeviceStatus.NOT_READY
    sim.installer.roll_back(made)
    assert sim.scanner.read().status is DeviceStatus.READY


def test_one_may_be_unable_to_go_back(sim: Sim) -> None:
    made = sim.upgrade("2.6.0\nFAIL-ROLLBACK")
    with pytest.raises(Broken):
        sim.installer.roll_back(made)


def test_one_that_hangs_ends_when_it_is_told_to_stop(sim: Sim) -> None:
    timer = Timer(0.1, sim.place.stop.set)
    timer.start()
    with pytest.raises(Broken) as hung:
        sim.upgrade("2.6.0\nHANG")
    timer.join()
    assert hung.value.why is Why.INTERRUPTED
