"""Whether the server may tell the time now, and if not, why: the source's word, its age, and steps of the system clock.

CLOCK_MONOTONIC is slewed with the system clock and never set, so what moves between the two is a step: somebody set the
clock, the host was suspended, or a leap second. A step beyond what our error is bounded by leaves no answer true until
the source has looked again since. Source: S3; protocol section 5 "Time".
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from fleetward_server.clock import Sureness

log = logging.getLogger("fleetward.server")

LOOK_S = 30.0
OLD_S = 3 * LOOK_S
CALM_S = 60.0
"""Without a step for so long, an operator's word counts again: there is no source that could look."""
UNSURE_STEP_MS = 100
"""What counts as a step while our own error is not known."""
READINGS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the system clock. since: the source's last measurement, as first told after it."""

    at_s: float
    by_ms: int
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of our clock. looked_s: when the source was asked. ahead_us: system clock less CLOCK_MONOTONIC."""

    sure: Sureness
    looked_s: float
    ahead_us: int
    step: Step | None = None

    def trouble(self, now_s: float) -> str:
        """Return why no time may be told; nothing when it may."""
        if self.sure.radius_ms is None:
            return f"the time is not told: {self.sure.detail}"
        if now_s - self.looked_s > OLD_S:
            return f"the time is not told: {self.sure.source} has not answered for {int(now_s - self.looked_s)} s"
        if self.step is not None:
            return (
                f"the time is not told: the clock stepped by {self.step.by_ms} ms, {self.sure.source} must look again"
            )
        return ""

    def radius_ms(self, now_s: float) -> int:
        """Return the bound of our error, 0 when no time may be told."""
        return 0 if self.trouble(now_s) else self.sure.radius_ms or 0


def moved(watch: Watch, ahead_us: int, now_s: float) -> Watch:
    """Return the watch after one more reading of both clocks."""
    by_ms = (ahead_us - watch.ahead_us) // 1000
    watch = replace(watch, ahead_us=ahead_us)
    if abs(by_ms) > (UNSURE_STEP_MS if watch.sure.radius_ms is None else watch.sure.radius_ms):
        return replace(watch, step=Step(now_s, by_ms))
    if watch.step is not None and watch.sure.source == "assumed" and now_s - watch.step.at_s > CALM_S:
        return replace(watch, step=None)
    return watch


def looked(watch: Watch, sure: Sureness, asked_s: float) -> Watch:
    """Return the watch after the source has spoken. asked_s: when it was asked: before a step it cannot know of it."""
    step = watch.step
    if step is None or sure.source == "assumed":
        return replace(watch, sure=sure, looked_s=asked_s)
    if asked_s < step.at_s:
        return watch
    if step.since is None:
        # What it says now it may have measured before the step.
        step = replace(step, since=sure.measured)
    elif sure.measured != step.since and sure.radius_ms is not None:
        step = None
    return replace(watch, sure=sure, looked_s=asked_s, step=step)


class Timekeeper:
    """A watch over this host's clock; the source is asked in a thread of its own."""

    def __init__(self, ask: Callable[[], Sureness]) -> None:
        """Ask the source once and wait for it."""
        self._ask = ask
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clock")
        self._asked_s = time.monotonic()
        self._answer: Future[Sureness] | None = None
        self._watch = Watch(ask(), self._asked_s, ahead_us())
        self._told = ""
        sure = self._watch.sure
        log.info("time source", extra={"source": sure.source, "radius_ms": sure.radius_ms, "detail": sure.detail})

    @property
    def sure(self) -> Sureness:
        """What the source said last."""
        return self._watch.sure

    @property
    def radius_ms(self) -> int:
        """The bound of our error now, 0 when no time may be told."""
        return self._watch.radius_ms(time.monotonic())

    @property
    def trouble(self) -> str:
        """Why no time is told, as of the last look."""
        return self._told

    def look(self) -> bool:
        """Read both clocks, hear the source if it has spoken; say whether ``trouble`` has changed."""
        now_s = time.monotonic()
        self._watch = moved(self._watch, ahead_us(), now_s)
        if self._answer is not None and self._answer.done():
            self._watch, self._answer = looked(self._watch, self._answer.result(), self._asked_s), None
        if self._answer is None and now_s - self._asked_s >= LOOK_S:
            self._asked_s, self._answer = now_s, self._pool.submit(self._ask)
        told, self._told = self._told, self._watch.trouble(now_s)
        if told != self._told:
            level = logging.WARNING if self._told else logging.INFO
            detail = {"detail": self._told}
            log.log(level, "no time is told" if self._told else "the time is told again", extra=detail)
        return told != self._told

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def ahead_us() -> int:
    """Return the system clock less CLOCK_MONOTONIC: the most of a few readings, each of which falls short."""
    clock, monotonic = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC
    return max(time.clock_gettime_ns(clock) - time.clock_gettime_ns(monotonic) for _ in range(READINGS)) // 1000
