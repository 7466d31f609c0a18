"""A thousand devices rotate while a fifth is away and the server is killed twice; ``FLEETWARD_ROTATING`` changes it."""

import os
import tempfile
from pathlib import Path

from tests.bench.bars import at_most, exactly
from tests.live.house import House
from tests.live.rotating import Rotating

COUNT = int(os.environ.get("FLEETWARD_ROTATING", "1000"))
GIVE_UP_S = 900.0
OUT_WITHIN_S = 60.0


def main() -> None:
    """Print how long it took, who was locked out, and how long an old key stayed out of the list."""
    with tempfile.TemporaryDirectory() as name, House(Path(name), telemetry_s=60) as house:
        rotating = Rotating(house, COUNT)
        figures = rotating.run(GIVE_UP_S)
        locked, out = exactly(len(figures.locked_out), 0), at_most(max(figures.out), OUT_WITHIN_S, " s")
        print(f"{figures} (locked out, {locked}; in the list, {out})")
        rotating.close()


if __name__ == "__main__":
    main()
