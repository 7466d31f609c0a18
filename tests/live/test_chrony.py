"""A real chronyd as the server's time source: what it says bounds our error, and its silence is not a bound."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward_server.clock import sureness
from fleetward_server.config import TimeTable

pytestmark = [pytest.mark.live, pytest.mark.part]
CHRONY = TimeTable(source="chrony")
WAIT_S = 20.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["local stratum 5", ""], ids=["has a reference", "has none"])
def tracking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Start a chronyd that touches no clock (-x) and listens to commands alone; yield how to ask it."""
    port = free_port()
    config = tmp_path / "chrony.conf"
    config.write_text(
        f"{request.param}\ncmdport {port}\nbindcmdaddress 127.0.0.1\nport 0\n"
        f"pidfile {tmp_path}/chronyd.pid\nbindcmdaddress /\n"
    )
    program = shutil.which("chronyd", path="/usr/sbin:/sbin:/usr/bin")
    assert program is not None, "chronyd is missing: apt-get install chrony"
    command = ("chronyc", "-h", "127.0.0.1", "-p", str(port), "-c", "tracking")
    with subprocess.Popen([program, "-x", "-d", "-f", str(config), "-u", "root"], stderr=subprocess.DEVNULL) as chronyd:
        yield request.param, command
        chronyd.terminate()


def test_chronys_word_bounds_our_error_and_without_a_reference_nothing_does(
    tracking: tuple[str, tuple[str, ...]],
) -> None:
    reference, command = tracking
    deadline = time.monotonic() + WAIT_S
    sure = sureness(CHRONY, command)
    while "not synchronised" not in sure.detail and sure.radius_ms is None and time.monotonic() < deadline:
        sure = sureness(CHRONY, command)

    assert sure.source == "chrony"
    assert (sure.radius_ms is not None) == bool(reference), sure
