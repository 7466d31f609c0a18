"""Telemetry: readings of a closed list of names, each a finite number. Nothing biometric can be spelled here (C9, C10).

Source: protocol section 4; S8 (only the listed interactions).
"""

from typing import Annotated

from msgspec import Meta

from fleetward_schemas.shapes import Moment, Unlawful, UpBody

MAX_READINGS = 100

METRICS: dict[str, tuple[float, float, str]] = {
    "uptimeS": (0, 1e10, "seconds since the agent started"),
    "temperatureC": (-90, 200, "scanner temperature, degrees Celsius"),
    "hostLoad": (0, 10_000, "one-minute load average of the host"),
    "hostMemoryFreeBytes": (0, 2**52, "memory the host could still give, bytes"),
    "hostDiskFreeBytes": (0, 2**52, "free space where the agent keeps its state, bytes"),
    "outboxDepth": (0, 1e9, "reports waiting for an ack"),
    "outboxDropped": (0, 1e12, "telemetry reports that went whole since first start, for want of room or too old"),
    "outboxThinned": (0, 1e12, "readings given up since first start for want of room, every second one of what is old"),
    "reconnects": (0, 1e12, "connections made since the agent started"),
    "clockWidthMs": (0, 1e9, "width of the trusted time interval, milliseconds"),
    "clockAgeS": (0, 1e10, "seconds since a time answer last counted"),
    "clockDriftPpm": (0, 1e6, "how far the host's oscillator may run off, configured or measured, parts per million"),
    "clockRefused": (0, 1e12, "time answers and beacons that did not count since the agent started"),
    "scannerReady": (0, 1, "1 when the scanner answers, else 0"),
}
"""Every metric there is: name -> (lowest, highest, meaning with unit)."""


class Reading(UpBody, frozen=True):
    """Numbers observed at one moment.

    observedAt: middle of the device's interval; uncertaintyMs: half its width, rounded up.
    """

    observedAt: Moment  # noqa: N815
    uncertaintyMs: Annotated[int, Meta(ge=0, le=10**9)]  # noqa: N815
    metrics: Annotated[dict[str, float | int], Meta(min_length=1, max_length=len(METRICS))]

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if name not in METRICS:
                raise Unlawful("a metric that is not in the list")
            low, high, _ = METRICS[name]
            if not low <= value <= high:
                raise Unlawful(f"{name} outside {low:g}..{high:g}")


class Telemetry(UpBody, frozen=True):
    """Many readings under one signature, oldest first."""

    readings: Annotated[list[Reading], Meta(min_length=1, max_length=MAX_READINGS)]
