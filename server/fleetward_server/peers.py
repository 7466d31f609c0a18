"""Workers that tell the time must agree: who stands outside what most of them hold true is wrong and must be silent.

Each says between which moments true time lies, all for the same instant. Where more than half of the intervals overlap
the truth may lie (Marzullo); whose interval reaches no such place is wrong. Without one nobody can tell who is wrong.
Source: S3; RFC 5905 section 11.2.1 (the intersection of correctness intervals).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One worker's interval of true time, microseconds since 1970, both ends included."""

    worker: str
    earliest_us: int
    latest_us: int


def outvoted(readings: Sequence[Reading]) -> frozenset[str]:
    """Return the workers that may not answer: those in no majority."""
    return frozenset(one.worker for one in readings if not _in_majority(one, readings))


def _in_majority(one: Reading, readings: Sequence[Reading]) -> bool:
    # Overlaps begin where an interval begins, so no other moment need be looked at.
    starts = {other.earliest_us for other in readings if one.earliest_us <= other.earliest_us <= one.latest_us}
    return any(2 * sum(_holds(other, start) for other in readings) > len(readings) for start in starts)


def _holds(one: Reading, at_us: int) -> bool:
    return one.earliest_us <= at_us <= one.latest_us


def trouble(own: str, readings: Iterable[Reading]) -> str:
    """Return why the worker ``own`` may not answer; nothing when it may."""
    every = tuple(readings)
    out = outvoted(every)
    if own not in out:
        return ""
    if len(out) == len(every):
        return f"the time is not told: {len(every)} workers disagree and no majority is right"
    return f"the time is not told: this worker disagrees with {len(every) - len(out)} of {len(every)}"
