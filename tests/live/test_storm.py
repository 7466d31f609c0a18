"""A whole fleet loses its line at once, and its broker after that: who is away is shown so, and all come back."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_sandbox.cable import Cable
from fleetward_sandbox.fleet import Door, Fleet
from fleetward_schemas.jws import Alg
from fleetward_server.selection import parse
from tests.live.house import House

pytestmark = [pytest.mark.live, pytest.mark.slow]
COUNT = 50
CONNECTS_PER_S = 25
OFFLINE_WITHIN_S = 32.0
"""One and a half keep-alives of 20 s, and what broker and server need for the wills of all."""
BUSY_S = 28.0
"""What a machine that does other things besides may take longer."""
CONNECTED = re.compile(r"^(\S+Z) info +connected principal=[a-z2-7]{26} ", re.MULTILINE)


class Storm:
    """A house, a fleet on a cable, and a watch."""

    def __init__(self, house: House, count: int) -> None:
        """Bring the fleet up."""
        self.house, self.count = house, count
        made = house.provision(count, alg=Alg.EDDSA)
        self.cable = Cable("localhost", house.port)
        self.fleet = Fleet([one.folder for one in made], Door("localhost", self.cable.port), device_alg=Alg.EDDSA)
        self.wait(lambda: self.settled({}) and self.online() == count, 600)

    def wait(self, until: object, within_s: float) -> float:
        """Let the fleet turn until it is so; return how long that took."""
        began = time.monotonic()
        while not until():  # type: ignore[operator]
            self.fleet.turn(0.05)
            assert time.monotonic() - began < within_s, f"{self.online()} of {self.count} online after {within_s} s"
        return time.monotonic() - began

    def online(self) -> int:
        """Return how many the server shows as online."""
        return len(self.house.store.device_ids(parse("state:online", datetime.now(UTC))))

    def settled(self, before: dict[str, int]) -> bool:
        """Say whether each has connected since, was greeted, and has nothing left to say."""
        return all(
            one.stage is At.WORKING
            and one.parts.outbox.depth == 0
            and one.counts.get("connections", 0) > before.get(one.id, 0)
            for one in self.fleet.devices
        )

    def connections(self) -> dict[str, int]:
        return {one.id: one.counts.get("connections", 0) for one in self.fleet.devices}

    def silence(self) -> tuple[float, int]:
        """Pull the cable; return when the last was shown as offline, and how many came back from that by themselves."""
        assert self.online() == self.count
        self.cable.freeze()
        took = self.wait(lambda: self.online() == 0, OFFLINE_WITHIN_S + 2 * BUSY_S)
        until = time.monotonic() + 3
        falsely = 0
        while time.monotonic() < until:
            self.fleet.turn(0.05)
            falsely = max(falsely, self.online())
        return took, falsely

    def mended(self) -> float:
        """Put the cable back; return when all were there and had nothing left to say."""
        before = self.connections()
        self.cable.cut()
        self.cable.mend()
        return self.wait(lambda: self.settled(before) and self.online() == self.count, 600)

    def restarted(self) -> float:
        """Kill the broker; return when all were there again and had nothing left to say."""
        before = self.connections()
        self.house.kill("broker")
        return self.wait(lambda: self.settled(before) and self.online() == self.count, 600)

    def most_connects(self, window_s: float) -> int:
        """Return the most devices that connected within so many seconds, as the broker's log has it."""
        text = (self.house.folder / "broker.log").read_text()
        at = sorted(datetime.fromisoformat(one).timestamp() for one in CONNECTED.findall(text))
        return max(sum(first <= one < first + window_s for one in at) for first in at)

    def close(self) -> None:
        self.fleet.close()
        self.cable.close()


def test_a_storm_is_seen_rightly_and_passes_in_order(tmp_path: Path) -> None:
    with House(tmp_path, telemetry_s=10, connects_per_s=CONNECTS_PER_S) as house:
        storm = Storm(house, COUNT)
        took, falsely = storm.silence()
        assert took <= OFFLINE_WITHIN_S + BUSY_S
        assert falsely == 0
        back, again = storm.mended(), storm.restarted()
        # Handshakes that wait for a busy processor end together: over five seconds that evens out.
        assert storm.most_connects(5.0) <= 6 * CONNECTS_PER_S
        assert "turned away" in (house.folder / "broker.log").read_text()
        storm.close()
        print(f"\n{COUNT} agents: offline after {took:.1f} s, back after {back:.1f} s, after a restart {again:.1f} s")
