"""A disk that fills up under a working provider: nothing acknowledged is lost, and all goes on by itself with room."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from errno import ENOSPC
from pathlib import Path

import pytest

from fleetward_agent.outbox import FILE as OUTBOX
from fleetward_agent.outbox import Outbox, Report
from fleetward_server.disk import free_bytes
from fleetward_server.health import FILE as HEALTH
from fleetward_server.state import Report as Stored
from tests.live.house import House

pytestmark = [pytest.mark.live, pytest.mark.part, pytest.mark.timeout(900)]
SIZE_MB = 20
LEAST_MB = 4


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of its own; it is made by the machine's superuser, as whom live parts run."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def house(small: Path, tmp_path: Path) -> Iterator[House]:
    """Return a provider on the small disk, its devices elsewhere."""
    with House(small, serve=False) as house:
        house.devices = tmp_path / "devices"
        path = house.folder / "fleetward.toml"
        path.write_text(path.read_text().replace("# min_free_mb = 200", f"min_free_mb = {LEAST_MB}"))
        house.serve()
        yield house


def health(house: House) -> dict[str, object]:
    """Return what the server says of itself; a missing word is no word."""
    try:
        return dict(json.loads((house.folder / HEALTH).read_bytes()))
    except (OSError, ValueError):
        return {}


def fill(house: House, leave: int) -> Path:
    """Take the disk's room but ``leave`` bytes; others write meanwhile, so that it may be full before."""
    ballast = house.home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        left = free_bytes(house.folder) - leave
        try:
            while left > 0:
                left -= file.write(bytes(min(left, 4096)))
        except OSError as full:
            if full.errno != ENOSPC:
                raise
    return ballast


def moments(reports: Iterable[Stored | Report]) -> set[str]:
    """Return when each of their readings was taken."""
    return {one["observedAt"] for report in reports for one in json.loads(report.body)["readings"]}


def kept(folder: Path) -> set[str]:
    """Return the moments of the readings that a device still keeps."""
    outbox = Outbox(folder / "state" / OUTBOX)
    found = outbox.waiting(1000, ())
    outbox.close()
    return moments(report for report in found if report.kind == "telemetry")


def works(house: House) -> str:
    """Have a device report; return its id and folder."""
    (made,) = house.provision(1)
    house.start_agent(made.folder)
    house.wait(lambda: len(house.reports(made.id)) > 2, "an agent reports")
    return made.id


@pytest.mark.parametrize("leave", [LEAST_MB << 19, 0], ids=["below the mark", "to the last byte"])
def test_a_full_disk_pauses_the_server_and_loses_nothing(house: House, leave: int) -> None:
    device_id = works(house)
    folder = house.devices / device_id

    ballast = fill(house, leave)
    house.wait(lambda: not health(house).get("ready"), "the server says that it is not ready")
    house.wait(lambda: len(kept(folder)) >= 5, "the device keeps what nobody acknowledges")
    before, held = moments(house.reports(device_id)), kept(folder)
    ballast.unlink()

    house.wait(lambda: health(house).get("ready"), "the server is ready again")
    house.wait(lambda: before | held <= moments(house.reports(device_id)), "the device hands over what it kept", 400)
    ids = [report.id for report in house.reports(device_id)]
    assert len(ids) == len(set(ids))
