"""How upgrades stand, for whoever looks: a line for each piece of software on each device, and a device's own words.

Source: S7; upgrade_state.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Progress
from fleetward_server.state import Device, Report
from fleetward_server.upgrade_state import Assignment, Upgrade

Window = tuple[datetime, datetime]
WAITING, SENT = "waiting", "sent"
"""Where an assignment stands before the device spoke of it."""
WORDS = (WAITING, SENT, *Phase)


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of software on one device. running: what it committed; assigned: what it shall run.

    phase: of ``WORDS``; since: of the phase by the device's words, or when it was assigned or sent.
    """

    device_id: DeviceId
    serial: str
    name: str
    running: str | None
    running_counter: int | None
    assigned: str | None
    assigned_counter: int | None
    phase: str
    why: str | None
    attempt: int
    since: datetime | None
    window: Window | None


@dataclass(frozen=True, slots=True)
class Step:
    """One word of a device's history. at: as the device sealed it."""

    at: datetime
    received_at: datetime
    name: str
    version: str | None
    state: str
    reason: str | None
    attempt: int
    assignment: int


def step(report: Report, said: Progress, made: Assignment | None) -> Step:
    """Return one word of a device. made: the assignment that it speaks of, None where it was forgotten."""
    wanted = None if made is None else made.of(said.name)
    return Step(
        at=report.at,
        received_at=report.received_at,
        name=said.name,
        version=None if wanted is None else wanted.version,
        state=said.state,
        reason=said.reason,
        attempt=said.attempt,
        assignment=said.assignmentVersion,
    )


def lines_of(device: Device, counts: Assignment | None, got: Mapping[str, Upgrade]) -> list[Line]:
    """Return each piece of software of a device. counts: its assignment; got: how far each got, by its name."""
    names = {one.name for one in counts.wanted} if counts is not None else set()
    return [_line(device, counts, got.get(name), name) for name in sorted(names | got.keys())]


def _line(device: Device, counts: Assignment | None, got: Upgrade | None, name: str) -> Line:
    wanted = None if counts is None else counts.of(name)
    held = None if got is None else got.committed
    spoken = got is not None and (counts is None or wanted is None or got.assignment >= counts.version)
    phase, since = _standing(counts, got if spoken else None)
    return Line(
        device_id=device.id,
        serial=device.identity.serialNo,
        name=name,
        running=None if held is None else held.version,
        running_counter=None if held is None else held.counter,
        assigned=None if wanted is None else wanted.version,
        assigned_counter=None if wanted is None else wanted.counter,
        phase=phase,
        why=got.why if got is not None and spoken else None,
        attempt=got.attempt if got is not None and spoken else 0,
        since=since,
        window=None if counts is None else counts.window,
    )


def _standing(counts: Assignment | None, got: Upgrade | None) -> tuple[str, datetime | None]:
    """Return the phase and since when: by the device's words, or, before it spoke, by our own."""
    if got is not None:
        return got.phase, got.since
    if counts is None:
        return "", None
    return (WAITING, counts.created_at) if counts.told_at is None else (SENT, counts.told_at)
