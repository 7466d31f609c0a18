"""What the server sees of a real device's clock, and what is told of its own."""

from pathlib import Path

import pytest

from fleetward_server.selection import EVERYTHING
from tests.live.house import House

pytestmark = pytest.mark.live


def test_a_devices_clock_stands_in_its_papers_and_in_the_fleets_numbers(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        (made,) = house.provision(1)
        house.start_agent(made.folder)
        house.wait(lambda: house.reports(made.id), "the device reports")
        with house.operator as operator:
            clock, fleet, own = operator.papers(made.id).clock, operator.clocks(EVERYTHING), operator.own_clock()

    assert clock is not None
    assert 500 <= clock.width_ms <= 5000
    assert -5000 <= clock.offset_ms <= 10_000
    assert clock.synced_at is not None
    assert (clock.refused, clock.drift_ppm, [one.device_id for one in fleet]) == (0, 200, [made.id])
    assert (own["source"], own["radius_ms"], own["running"]) == ("assumed", 250, "ready")
