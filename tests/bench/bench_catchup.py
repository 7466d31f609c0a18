"""A server that was away for a month, and 200 devices that kept what they had to say: paced, nothing lost, live first.

Real agents over real TLS in one process, broker and server in two others. The server's CPU stands beside the reports it
took a second; under way at once are at most 16 reports a device. ``FLEETWARD_AGENTS`` sets another number.
"""

import os
import tempfile
from pathlib import Path

from fleetward_agent.receipts import MOST_IN_FLIGHT
from tests.bench.bars import at_most
from tests.live.house import House
from tests.live.test_catchup import DAYS, READINGS, Outage

COUNT = int(os.environ.get("FLEETWARD_AGENTS", "200"))
REPORTS = 216
"""A reading every ten minutes, twenty to a report."""


def main() -> None:
    """Let them come back and print how it went."""
    with tempfile.TemporaryDirectory() as name, House(Path(name), telemetry_s=600) as house:
        outage = Outage(house, COUNT, REPORTS)
        told = outage.back()
        outage.check()
        reports, paced = COUNT * REPORTS, at_most(told["most_under_way"], COUNT * MOST_IN_FLIGHT)
        print(
            f"{COUNT} devices after {DAYS} days, {reports} reports of {READINGS} readings: all online after "
            f"{told['online_s']:.1f} s, all history in after {told['all_s']:.1f} s ({reports / told['all_s']:.0f}/s), "
            f"server {told['cpu'] * 100:.0f} % of a core, at most {told['most_under_way']:.0f} reports under way "
            f"({paced}); nothing lost, nothing twice, the newest first (bar all: held)"
        )
        outage.fleet.close()


if __name__ == "__main__":
    main()
