"""Simulated scanners are upgraded like real ones, many in one process; one that hangs keeps nobody, itself included."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetward_agent.device import Device
from fleetward_sandbox.fleet import Fleet
from fleetward_sandbox.provision import Made
from fleetward_sandbox.scanner import FIRMWARE, SimulatedScanner
from fleetward_schemas.upgrade import Phase, Why
from tests.live.upgrading import Works

pytestmark = pytest.mark.live
REPORTS = 5


def firmware(device: Device) -> str:
    scanner = device.parts.scanner
    assert isinstance(scanner, SimulatedScanner)
    return scanner.read().firmware


class Simulated:
    """Five devices in one process, which turns while somebody waits."""

    def __init__(self, folder: Path) -> None:
        self.works = Works(folder).__enter__()
        self.made = self.works.house.provision(5)
        self.fleet = Fleet([one.folder for one in self.made])
        self.until(lambda: all(self.works.house.reports(one.id) for one in self.made), "all report")

    def until(self, done: Callable[[], object], what: str) -> None:
        def turned() -> object:
            self.fleet.turn(0.05)
            return done()

        self.works.house.wait(turned, what, 300)

    def close(self) -> None:
        self.fleet.close()
        self.works.__exit__()

    def reports(self, made: Made) -> int:
        return len(self.works.house.reports(made.id))


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    made = Simulated(tmp_path)
    yield made
    made.close()


def test_a_fleet_shows_its_new_firmware_and_what_hangs_keeps_nobody(simulated: Simulated) -> None:
    works, (hung, ill, *well) = simulated.works, simulated.made
    devices = dict(zip((one.id for one in simulated.made), simulated.fleet.devices, strict=True))
    works.assign(works.release(2, b"2.5.0\nHANG\n"), hung)
    simulated.until(lambda: (one := works.upgrade(hung)) and one.phase is Phase.INSTALLING, "one hangs")
    works.assign(works.release(3, b"2.6.0\nFAIL-HEALTH\n"), ill)
    works.assign(works.release(4, b"2.7.0\nimage"), *well)

    simulated.until(lambda: all(works.counter(one) == 4 for one in well), "the well are upgraded")
    simulated.until(lambda: (one := works.upgrade(ill)) and one.why is Why.UNHEALTHY, "the ill one says so")
    assert [firmware(devices[one.id]) for one in (hung, ill, *well)] == [FIRMWARE] * 2 + ["2.7.0"] * 3
    had = {one.id: simulated.reports(one) for one in simulated.made}
    simulated.until(
        lambda: all(simulated.reports(one) >= had[one.id] + REPORTS for one in simulated.made), "all go on reporting"
    )
