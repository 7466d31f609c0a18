"""A server was away for a month: what its devices kept comes in as it can take it, the newest first, all of it once."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from fleetward_agent.device import Device
from fleetward_agent.receipts import MOST_IN_FLIGHT
from fleetward_agent.turn import AddReport
from fleetward_agent.walk import Stage as At
from fleetward_sandbox.fleet import Door, Fleet
from fleetward_schemas.ids import next_id
from fleetward_schemas.jws import Alg
from fleetward_schemas.moment import show, to_ms
from fleetward_server.store import ReportFilter
from tests.live.house import House

pytestmark = [pytest.mark.live, pytest.mark.slow]
COUNT, REPORTS = 10, 60
READINGS = 20
DAYS = 30
METRICS = {"uptimeS": 1, "temperatureC": 31.5, "outboxDepth": 40, "scannerReady": 1}


class Outage:
    """A fleet that came up once, a server that went away, and what piled up since."""

    def __init__(self, house: House, count: int, reports: int) -> None:
        """Bring the fleet up, end broker and server, and let a month of readings wait at each device."""
        self.house, self.count, self.port = house, count, house.port
        made = house.provision(count, alg=Alg.EDDSA)
        self.fleet = Fleet([one.folder for one in made], Door("localhost", self.port), device_alg=Alg.EDDSA)
        self.wait(self.settled, 600)
        house.stop()
        self.before = {one.id: one.counts["connections"] for one in self.fleet.devices}
        self.piled = {one.id: self.pile(one, reports) for one in self.fleet.devices}

    def pile(self, device: Device, reports: int) -> list[str]:
        """Put a month of reports into an outbox; return their ids, oldest first."""
        now = datetime.now(UTC)
        at = [now - timedelta(days=DAYS) * (reports - one) / reports for one in range(reports)]
        ids = [next_id(one, None, one.microsecond.to_bytes(10, "big")) for one in at]
        device.parts.outbox.commit(
            [AddReport(ids[n], "telemetry", body(at[n]), 3, to_ms(at[n])) for n in range(reports)]
        )
        return ids

    def back(self) -> dict[str, float]:
        """Serve again, on the same port; return when all were online, when all was in, and what it took."""
        path = self.house.folder / "fleetward.toml"
        path.write_text(path.read_text().replace("port = 0", f"port = {self.port}"))
        self.house.serve()
        server = psutil.Process(int(self.house.found()["server"]))
        began, spent = time.monotonic(), sum(server.cpu_times()[:2])
        online_s = self.wait(self.greeted, 600)
        most = [0]

        def watched() -> bool:
            most[0] = max(most[0], sum(len(one.session.flight) for one in self.fleet.devices))
            return self.settled()

        self.wait(watched, 1200)
        took = time.monotonic() - began
        cpu = sum(server.cpu_times()[:2]) - spent
        return {"online_s": online_s, "all_s": took, "cpu": cpu / took, "most_under_way": float(most[0])}

    def wait(self, until: object, within_s: float) -> float:
        """Let the fleet turn until it is so."""
        began = time.monotonic()
        while not until():  # type: ignore[operator]
            self.fleet.turn(0.05)
            assert time.monotonic() - began < within_s, f"not within {within_s} s"
        return time.monotonic() - began

    def greeted(self) -> bool:
        """Say whether the server has acknowledged each device's ``online`` since it is back."""
        return all(
            one.stage is At.WORKING and one.counts["connections"] > self.before[one.id] for one in self.fleet.devices
        )

    def settled(self) -> bool:
        return all(one.stage is At.WORKING and one.parts.outbox.depth == 0 for one in self.fleet.devices)

    def arrived(self, device_id: str) -> list[str]:
        """Return the piled reports of a device in the order in which they came in."""
        piled = set(self.piled[device_id])  # type: ignore[index]
        return [one.id for one in self.stream(device_id) if one.id in piled]

    def stream(self, device_id: str) -> Iterator[object]:
        return self.house.store.stream_reports(ReportFilter(device_id, "telemetry"))  # type: ignore[arg-type]

    def check(self) -> None:
        """Nothing is lost or doubled, and of each device the newest came first."""
        for device_id, ids in self.piled.items():
            came = self.arrived(device_id)
            assert sorted(came) == ids
            # Reports that are under way together may overtake each other.
            assert came[0] in ids[-MOST_IN_FLIGHT:]
            assert set(came[-MOST_IN_FLIGHT:]) & set(ids[: 2 * MOST_IN_FLIGHT])


def body(at: datetime) -> str:
    """Return a full report's body, its last reading at this moment."""
    moments = (at - timedelta(seconds=30 * (READINGS - one)) for one in range(READINGS))
    return json.dumps(
        {"readings": [{"observedAt": show(m), "uncertaintyMs": 250, "metrics": METRICS} for m in moments]}
    )


def test_a_month_comes_in_paced_the_newest_first_and_once(tmp_path: Path) -> None:
    with House(tmp_path, telemetry_s=30) as house:
        outage = Outage(house, COUNT, REPORTS)
        told = outage.back()
        outage.check()
        assert told["most_under_way"] <= COUNT * MOST_IN_FLIGHT
        assert told["online_s"] <= told["all_s"]
        outage.fleet.close()
