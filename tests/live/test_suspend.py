"""This host's own clocks: where CLOCK_BOOTTIME has gained on CLOCK_MONOTONIC, the host was suspended."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.test_clock_export import synced
from tests.agent.test_main import provisioned
from tests.world import Provider

pytestmark = pytest.mark.live
SLEPT_S = 7200


def shown(folder: Path, *within: str) -> dict[str, float]:
    command = [*within, sys.executable, "-m", "fleetward_agent", "clock", "show", "--device", str(folder), "--json"]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_a_suspend_is_seen_by_the_kernels_clocks_and_costs_a_second_at_each_end(tmp_path: Path) -> None:
    folder = provisioned(tmp_path, Provider())
    synced(folder)
    awake = shown(folder)
    slept = shown(folder, "unshare", "--map-root-user", "--time", "--boottime", str(SLEPT_S))

    # Only the namespace slept, so the system clock seems to be behind by so much.
    assert abs(slept["systemClockOffMs"] - awake["systemClockOffMs"] + SLEPT_S * 1000) < 200
    drift_ms = SLEPT_S * 1000 * 200 / 1e6
    assert 1000 + drift_ms <= slept["uncertaintyMs"] - awake["uncertaintyMs"] <= 1000 + drift_ms + 20
