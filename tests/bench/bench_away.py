"""Thirty days of a device that is online ten minutes a day: nothing lost, nothing doubled, and what it costs in bytes.

Real agent and real server in one process, joined in memory; the time is programmed. What the same readings would cost
one by one, bench_bytes says.
"""

import tempfile
import time
from pathlib import Path

from tests.bench.bars import NO_BAR
from tests.test_away import begun, lived

DAYS = 30


def main() -> None:
    """Live through it and print."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        month = begun(Path(name))
        print(f"{lived(month, DAYS)} ({NO_BAR})")
        month.joined.store.close()
        took = time.perf_counter() - began
        print(f"every report stored once, every order done once or expired undone (bar all: held); {took:.0f} s")


if __name__ == "__main__":
    main()
