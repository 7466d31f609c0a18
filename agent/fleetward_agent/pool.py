"""Threads for what is slow: downloads, installers. Off the loop, so that nothing keeps the line from its pings.

A thread lives as long as its job. A job that overstays its time is told as failed and left to itself: its thread ends
with the process, and what it brings later is thrown away. Source: deploy/decisions/0001 "One concurrency style".
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from fleetward_agent.instant import SECOND_US
from fleetward_agent.upgrade_effects import UpgradeOutcome

MOST_AT_ONCE = 4
POOL = "pool"
"""The tag under which the link watches it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of slow work. act: raises nothing. late: what counts if it has not ended within ``within_s``."""

    act: Callable[[], UpgradeOutcome | None]
    late: UpgradeOutcome | None
    within_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job. owner: the number it was asked under. late: it has not come back."""

    owner: int
    outcome: UpgradeOutcome | None
    late: bool = False


class Pool(Protocol):
    """Whoever does jobs. Its file descriptor is readable when one has ended."""

    def ask(self, owner: int, job: Job, now_us: int) -> None:
        """Have a job done as soon as there is room."""
        ...

    def ended(self, now_us: int) -> list[Ended]:
        """Return what has ended since, or is out of time."""
        ...

    def fileno(self) -> int:
        """Return a descriptor to wait on."""
        ...

    def close(self) -> None:
        """Let go; nothing is told any more."""
        ...


@dataclass(slots=True)
class _Running:
    owner: int
    job: Job
    until_us: int


class Threads:
    """A thread for each job, ``most`` at once; made in and used from the loop's thread."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._queue: deque[tuple[int, Job]] = deque()
        self._running: dict[object, _Running] = {}
        self._done: SimpleQueue[tuple[object, UpgradeOutcome | None]] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def ask(self, owner: int, job: Job, now_us: int) -> None:
        """Begin a job, or have it wait for one to end."""
        self._queue.append((owner, job))
        self._start(now_us)

    def ended(self, now_us: int) -> list[Ended]:
        """Return what has ended; a job that is out of time has its ``late`` outcome."""
        found = []
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while (done := self._next_done()) is not None:
            running = self._running.pop(done[0], None)
            if running is not None:
                found.append(Ended(running.owner, done[1]))
        for key, running in list(self._running.items()):
            if now_us >= running.until_us:
                del self._running[key]
                found.append(Ended(running.owner, running.job.late, late=True))
        self._start(now_us)
        return found

    def fileno(self) -> int:
        """Return a descriptor to wait on."""
        return self._wake

    def close(self) -> None:
        """Let go: threads that still work end with the process, and hold the descriptor until then."""
        self._queue.clear()
        self._running.clear()
        if self._wake >= 0 and not any(one.is_alive() for one in self._threads):
            os.close(self._wake)
            self._wake = -1

    def _next_done(self) -> "tuple[object, UpgradeOutcome | None] | None":
        try:
            return self._done.get_nowait()
        except Empty:
            return None

    def _start(self, now_us: int) -> None:
        while self._queue and len(self._running) < self._most:
            owner, job = self._queue.popleft()
            key = object()
            self._running[key] = _Running(owner, job, now_us + int(job.within_s * SECOND_US))
            thread = threading.Thread(target=self._work, args=(key, job), name="upgrade", daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _work(self, key: object, job: Job) -> None:
        self._done.put((key, job.act()))
        os.eventfd_write(self._wake, 1)
