"""Thirty days of a device that is online ten minutes a day: nothing lost, nothing doubled, and what it costs in bytes.

Real agent and real server in one process, joined in memory; the time is programmed. What the same readings would cost
one by one, bench_bytes says.
"""

import tempfile
import time
from pathlib import Path

from tests.test_away import begun, lived

DAYS = 30


def main() -> None:
    """Live through it and print."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        month = begun(Path(name))
        print(lived(month, DAYS))
        month.joined.store.close()
        print(f"every report stored once, every order done once or expired undone; {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
