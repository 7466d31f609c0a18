"""The agent's time as a real chronyd's reference clock, and the system clock that only the privileged may set."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetward_agent.clock_export import Reading, export
from fleetward_schemas.clock import Clock
from tests.live.chronyhouse import chrony, wait

pytestmark = [pytest.mark.live, pytest.mark.part]
OFF_US = 3_250_000
HALF_US = 2_000


def reading() -> Reading:
    """Return a reading of a device whose trusted time is 3.25 s ahead of this host's system clock."""
    now = time.time_ns() // 1000
    middle = now + OFF_US
    return Reading(Clock(middle - HALF_US, middle + HALF_US, 0), "boot", 0, now)


def sources(chronyc: tuple[str, ...]) -> list[list[str]]:
    done = subprocess.run((*chronyc, "sources"), capture_output=True, text=True, check=True)
    return [line.split(",") for line in done.stdout.splitlines()]


def test_chronyd_takes_our_samples_and_finds_the_offset(tmp_path: Path) -> None:
    sock = tmp_path / "chrony" / "fleetward.sock"
    clock = f"refclock SOCK {sock} refid FLWD poll 0 filter 4 precision 0.001 delay {2 * HALF_US / 1e6}"
    with chrony(tmp_path / "chrony", clock) as chronyc:
        wait(sock.exists, "chronyd listens for samples")

        def selected() -> bool:
            export(reading(), None, sock)
            return any(row[:3] == ["#", "*", "FLWD"] for row in sources(chronyc))

        wait(selected, "chronyd selects our clock")
        (row,) = sources(chronyc)
        # The last sample's offset, as measured: ours is ahead, so the host's is behind.
        assert abs(abs(float(row[8])) - OFF_US / 1e6) < 0.01, row


UNPRIVILEGED = """
import os, sys, time
from tests.live.test_clock_export import reading
from fleetward_agent.clock_export import set_system
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    print(set_system(reading()))
except PermissionError as problem:
    print("refused", abs(reading().off_us) > 3_000_000)
"""


def test_who_may_not_set_the_system_clock_does_not() -> None:
    before = time.time() - time.monotonic()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], cwd=root, env=os.environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["refused", "True"]
    assert abs(time.time() - time.monotonic() - before) < 1
