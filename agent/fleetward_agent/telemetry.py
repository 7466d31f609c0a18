"""Telemetry: one reading per period; while nobody takes them, up to 20 readings share one report.

A report that was sent keeps its content, since the server stores it once per id. Nothing but numbers of a closed list
can be said. Source: protocol section 4; S8, C10.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from fleetward_agent.clock import REFUSED_TIMES
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.outbox import DROPPED, THINNED
from fleetward_agent.reports import add_report
from fleetward_agent.session import OpenReport, Session
from fleetward_agent.turn import AddReport, GrowReport, ReadingTaken, TakeReading, Turn
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.moment import EPOCH, show
from fleetward_schemas.telemetry import METRICS, Reading, Telemetry

READINGS_PER_REPORT = 20
MOST_UNCERTAINTY_MS = 10**9
_PREFIX, _SUFFIX = '{"readings":[', "]}"


def step(session: Session, at: Instant) -> Turn:
    """Take a reading when one is due and its moment can be told; how surely is part of the reading."""
    if at.boot_us < session.telemetry_us or not can_tell(session, at.boot_us):
        return Turn(session)
    period_us = session.kept.telemetry_s * SECOND_US
    # From the time it was due, so that periods do not creep; from now, where whole periods were missed.
    due = max(session.telemetry_us + period_us, at.boot_us + period_us // 2)
    return Turn(replace(session, telemetry_us=due), effects=(TakeReading(),))


def on_reading(outcome: ReadingTaken, session: Session, at: Instant) -> Turn:
    """Put a reading into the report that is still open, or begin one."""
    half_ms = _half_ms(session, at.boot_us)
    earliest_us = session.clock.earliest_at(at.boot_us)
    middle = EPOCH + timedelta(microseconds=earliest_us + session.clock.width_at(at.boot_us) // 2)
    metrics = lawful(_metrics(outcome, session, at))
    reading = Reading(observedAt=show(middle), uncertaintyMs=half_ms, metrics=metrics)
    reading.checked()
    report = session.open_report
    if report is None or len(report.readings) >= READINGS_PER_REPORT:
        return _begin(session, at, reading)
    readings = (*report.readings, reading.json())
    grown = replace(session, open_report=OpenReport(report.id, readings))
    return Turn(grown, (GrowReport(report.id, _PREFIX + ",".join(readings) + _SUFFIX),))


def _begin(session: Session, at: Instant, reading: Reading) -> Turn:
    turn = add_report(session, at, "telemetry", Telemetry(readings=[reading]))
    made = next(change.id for change in turn.changes if isinstance(change, AddReport))
    return turn.on(replace(turn.session, open_report=OpenReport(made, (reading.json(),))))


def kept_back(session: Session) -> tuple[str, ...]:
    """Return the report that waits until it is full: where bytes are counted, 20 readings share what one would cost."""
    report = session.open_report
    waits = session.budget.bytes_per_day and report is not None and len(report.readings) < READINGS_PER_REPORT
    return (report.id,) if waits and report is not None else ()


def can_tell(session: Session, boot_us: int) -> bool:
    """Say whether a reading could be given its moment, and there is a certificate to report under."""
    speaks = session.kept.pair is not None and not session.retiring
    return speaks and _half_ms(session, boot_us) <= MOST_UNCERTAINTY_MS


def _half_ms(session: Session, boot_us: int) -> int:
    """Return half the interval's width, rounded up; very much while the time is unknown."""
    return -(-session.clock.width_at(boot_us) // 2000)


def _metrics(outcome: ReadingTaken, session: Session, at: Instant) -> dict[str, float]:
    return {
        **outcome.host,
        **outcome.sighting.metrics,
        "uptimeS": (at.boot_us - session.facts.started_us) // SECOND_US,
        "outboxDepth": outcome.depth,
        DROPPED: outcome.dropped,
        **({THINNED: outcome.thinned} if outcome.thinned else {}),
        "reconnects": session.counts.get("connections", 0),
        **clock_metrics(session, at.boot_us),
        "scannerReady": int(outcome.sighting.status is DeviceStatus.READY),
    }


def clock_metrics(session: Session, boot_us: int) -> dict[str, float]:
    """Return how the clock stands. clockAgeS: left out while no answer has counted since the start."""
    found: dict[str, float] = {
        "clockWidthMs": session.clock.width_at(boot_us) // 1000,
        "clockDriftPpm": session.clock.bound_ppm,
        "clockRefused": session.counts.get(REFUSED_TIMES, 0),
    }
    return found if session.synced_us is None else found | {"clockAgeS": (boot_us - session.synced_us) // SECOND_US}


def lawful(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return only what the closed list knows, within its bounds."""
    known = {name: value for name, value in metrics.items() if name in METRICS}
    return {name: value for name, value in known.items() if METRICS[name][0] <= value <= METRICS[name][1]}
