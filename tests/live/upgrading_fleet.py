"""Many simulated scanners upgraded at once; the bench's size is larger."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from fleetward_sandbox.fleet import Door, Fleet
from fleetward_schemas.jws import Alg
from fleetward_schemas.topics import DeviceId
from fleetward_server.store import ReportFilter
from tests.live.upgrading import Works

KIB = 1024


@dataclass(frozen=True)
class Figures:
    """What it took. server_s: processor time of the server alone; words: of progress, stored."""

    devices: int
    seconds: float
    server_s: float
    words: int
    image_bytes: int

    def __str__(self) -> str:
        """Tell them on one line."""
        return (
            f"{self.devices} devices, {self.image_bytes // KIB} KiB of firmware each: all committed "
            f"{self.seconds:.1f} s after the order, {self.devices / self.seconds:.0f} a second; the server "
            f"{1000 * self.server_s / self.devices:.1f} ms of its processor and "
            f"{self.words / self.devices:.1f} words a device"
        )


def upgraded(folder: Path, count: int, within_s: float) -> Figures:
    """Bring up so many devices, have all run firmware 2, and see that each has committed it once."""
    with Works(folder, telemetry_s=60) as works:
        house, content = works.house, b"2.0.0\n" + bytes(256 * KIB)
        made = house.provision(count, alg=Alg.EDDSA)
        fleet = Fleet([one.folder for one in made], Door("localhost", house.port), device_alg=Alg.EDDSA)
        ids = [DeviceId(one.id) for one in made]

        def turned(done: object) -> bool:
            fleet.turn(0.02)
            return bool(done())  # type: ignore[operator]

        house.wait(lambda: turned(lambda: len(house.store.online_devices("", count)) == count), "all online", within_s)
        target = works.release(2, content)
        server = psutil.Process(int(house.found()["server"]))
        before, began = sum(server.cpu_times()[:2]), time.monotonic()
        works.assign(target, *made)

        def committed() -> bool:
            found = [one.committed for one in house.store.upgrades_of(ids)]
            return sum(one is not None and one.counter == 2 for one in found) == count

        house.wait(lambda: turned(committed), "all have committed", within_s)
        seconds, used_s = time.monotonic() - began, sum(server.cpu_times()[:2]) - before
        assert {works.committed(one) for one in made} == {1}
        words = sum(len(house.store.reports(ReportFilter(one, "progress"))) for one in ids)
        fleet.close()
    return Figures(count, seconds, used_s, words, len(content))
