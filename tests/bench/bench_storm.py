"""A fleet of real agents loses its line at once (keep-alive 20 s), gets it back, and loses its broker.

Printed: when the last was shown as offline, beside the bound of one and a half keep-alives; when all were back with
nothing left to say; and the most connections of any second, beside the limit. ``FLEETWARD_AGENTS`` sets another number.
"""

import os
import tempfile
from pathlib import Path

from tests.bench.bars import NO_BAR, at_most, exactly
from tests.live.house import House
from tests.live.test_storm import OFFLINE_WITHIN_S, Storm

COUNT = int(os.environ.get("FLEETWARD_AGENTS", "1000"))
CONNECTS_PER_S = 200


def main() -> None:
    """Let it come and pass."""
    with (
        tempfile.TemporaryDirectory() as name,
        House(Path(name), telemetry_s=60, connects_per_s=CONNECTS_PER_S) as house,
    ):
        storm = Storm(house, COUNT)
        took, falsely = storm.silence()
        print(
            f"{COUNT} agents cut at once: all offline after {took:.1f} s ({at_most(took, OFFLINE_WITHIN_S, ' s')}), "
            f"falsely online {falsely} ({exactly(falsely, 0)})",
            flush=True,
        )
        print(f"line back: all online, outboxes empty after {storm.mended():.1f} s ({NO_BAR})")
        print(f"broker killed: all online, outboxes empty after {storm.restarted():.1f} s ({NO_BAR})")
        most = storm.most_connects(1.0)
        print(f"most connections in any second: {most} ({at_most(most, CONNECTS_PER_S)})")
        storm.close()


if __name__ == "__main__":
    main()
