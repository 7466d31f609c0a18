"""How the devices' clocks stand, from what they reported last; pure. Source: S3; telemetry's metrics ``clock...``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import parse
from fleetward_schemas.strict import read_object
from fleetward_schemas.telemetry import Telemetry
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Report

EDGES_MS = (10, 50, 100, 250, 500, 1000, 2000, 5000, 20_000)
"""Upper ends of a histogram's bars; a device wider than the last may not speak."""
BAR_CHARS = 40
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ClockView:
    """One device's clock as of its last reading. width_ms: of its interval of true time.

    offset_ms: our clock when the report came less the device's when it was sealed: its error, and the way here.
    synced_at: when an answer last counted; refused: answers and beacons that did not, since its agent started;
    drift_ppm: its oscillator's bound. These three are None from an agent that does not tell them.
    """

    device_id: DeviceId
    observed_at: datetime
    width_ms: float
    offset_ms: float
    synced_at: datetime | None = None
    refused: int | None = None
    drift_ppm: float | None = None


def view_of(report: Report) -> ClockView | None:
    """Return what a telemetry report says of the clock; None where it says nothing that this version reads."""
    try:
        last = Telemetry.read(read_object(report.body.encode())).readings[-1]
    except Refused:
        return None
    told, observed = last.metrics, parse(last.observedAt)
    if "clockWidthMs" not in told:
        return None
    return ClockView(
        device_id=report.device_id,
        observed_at=observed,
        width_ms=told["clockWidthMs"],
        offset_ms=(report.received_at - report.at) / MILLISECOND,
        synced_at=observed - timedelta(seconds=told["clockAgeS"]) if "clockAgeS" in told else None,
        refused=int(told["clockRefused"]) if "clockRefused" in told else None,
        drift_ppm=told.get("clockDriftPpm"),
    )


def views_of(reports: Iterable[Report]) -> list[ClockView]:
    """Return the clocks that are told of, the widest first."""
    found = [view for view in map(view_of, reports) if view is not None]
    return sorted(found, key=lambda view: (-view.width_ms, view.device_id))


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return median, p99 and max; nothing of no values."""
    if not values:
        return {"median": None, "p99": None, "max": None}
    ordered = sorted(values)
    return {"median": _at(ordered, 50), "p99": _at(ordered, 99), "max": ordered[-1]}


def _at(ordered: Sequence[float], percent: int) -> float:
    # The smallest value that is not below so many percent of all.
    return ordered[-(-len(ordered) * percent // 100) - 1]


def histogram(values: Iterable[float]) -> list[tuple[str, int]]:
    """Return how many values lie in each bar, as (label, count); every bar is there."""
    counts = [0] * (len(EDGES_MS) + 1)
    for value in values:
        counts[next((bar for bar, edge in enumerate(EDGES_MS) if value <= edge), len(EDGES_MS))] += 1
    labels = [*(f"<= {edge} ms" for edge in EDGES_MS), f"> {EDGES_MS[-1]} ms"]
    return list(zip(labels, counts, strict=True))


def drawn(bars: Sequence[tuple[str, int]]) -> list[str]:
    """Return a histogram as lines of plain text; what is there at all has a mark."""
    most = max((count for _, count in bars), default=0) or 1
    width = max(len(label) for label, _ in bars)
    return [f"{label:>{width}}  {'#' * -(-count * BAR_CHARS // most):<{BAR_CHARS}}  {count}" for label, count in bars]
