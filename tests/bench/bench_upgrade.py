"""A thousand devices upgraded at once, and what it costs a device to believe a release, beside python-tuf's own client.

Both read the same set. An agent is given each file by its name, asks for what is missing and judges the whole again,
five times, and keeps what verified through a power cut. ``FLEETWARD_UPGRADING`` sets another number of devices.
"""

import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from fleetward_agent.release_reader import ReleaseReader
from fleetward_agent.upgrade_effects import ReadRelease
from fleetward_schemas import moment
from tests.bench.bars import NO_BAR
from tests.live.upgrading_fleet import upgraded
from tests.repository import Repository, release, target
from tests.server.tufclient import Client

COUNT = int(os.environ.get("FLEETWARD_UPGRADING", "1000"))
GIVE_UP_S = 900.0
ROUNDS = 15


def main() -> None:
    """Print both."""
    print(believed(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        print(f"{upgraded(Path(name), COUNT, GIVE_UP_S)} ({NO_BAR})")


def believed() -> str:
    """Return how long both take from the factory's root on, by processor and clock, and the bytes that ours reads."""
    now = datetime.now(UTC)
    repository = Repository(now)
    repository.publish(target())
    read = 0

    def agent(folder: Path) -> None:
        nonlocal read
        read = _ours(repository, folder, now)

    def tuf(folder: Path) -> None:
        assert Client(folder, repository.files.get, repository.first).find(release().target) is not None

    ours, theirs = _timed(agent), _timed(tuf)
    return (
        f"a release believed from the first root on: {1000 * ours[0]:.1f} ms of the processor, python-tuf's own client "
        f"{1000 * theirs[0]:.1f} ms, ratio {ours[0] / theirs[0]:.1f}; with what is kept through a power cut "
        f"{1000 * ours[1]:.0f} ms, {1000 * theirs[1]:.0f} ms; {read} bytes read ({NO_BAR})"
    )


def _timed(act: Callable[[Path], None]) -> tuple[float, float]:
    """Return seconds of the processor and of the clock, medians, each time in a folder of its own."""
    used, took = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            processor, clock = time.process_time(), time.perf_counter()
            act(Path(name))
            used.append(time.process_time() - processor)
            took.append(time.perf_counter() - clock)
    return median(used), median(took)


def _ours(repository: Repository, folder: Path, now: datetime) -> int:
    """Read as an agent does; return the bytes."""
    reader = ReleaseReader(repository.first, folder, "ACME/Finger One")
    had: dict[str, bytes] = {}
    absent: set[str] = set()
    while True:
        us = moment.to_ms(now) * 1000
        found = reader.read(ReadRelease(release(), tuple(had.items()), frozenset(absent), us))
        if not found.wants:
            assert found.why is None
            return sum(map(len, had.values()))
        for file in found.wants:
            if file in repository.files:
                had[file] = repository.files[file]
            else:
                absent.add(file)


if __name__ == "__main__":
    main()
