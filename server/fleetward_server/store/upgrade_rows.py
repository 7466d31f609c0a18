"""Assignments and what came of them, to rows and back: one pair of functions per table, lossless.

Source: upgrade_state.py, whose order of fields stands here again.
"""

from collections.abc import Iterable
from datetime import datetime

from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Why
from fleetward_server.store import rows
from fleetward_server.store.rows import AnyRow, Values
from fleetward_server.upgrade_state import Assignment, Committed, Upgrade, Wanted


def from_assignment(made: Assignment, send_at: datetime | None) -> Values:
    """Return the row of an assignment that counts."""
    begin, end = made.window or (None, None)
    return {
        "device_id": made.device_id,
        "version": made.version,
        "actor": made.actor,
        "reason": made.reason,
        "window_from": rows.maybe_stamp(begin),
        "window_to": rows.maybe_stamp(end),
        "created_at": rows.stamp(made.created_at),
        "told_at": rows.maybe_stamp(made.told_at),
        "send_at": rows.maybe_stamp(send_at),
        "seen": made.seen,
        "counts": True,
    }


def to_assignment(row: AnyRow, wanted: Iterable[Wanted]) -> Assignment:
    """Read an assignment; what it wants has rows of its own."""
    window = None if row.window_from is None else (rows.moment(row.window_from), rows.moment(row.window_to))
    return Assignment(
        device_id=DeviceId(row.device_id),
        version=row.version,
        wanted=tuple(wanted),
        actor=row.actor,
        reason=row.reason,
        created_at=rows.moment(row.created_at),
        window=window,
        told_at=rows.maybe_moment(row.told_at),
        seen=row.seen,
    )


def from_wanted(made: Assignment, one: Wanted) -> Values:
    """Return the row of one piece of software that an assignment names."""
    return {
        "device_id": made.device_id,
        "version": made.version,
        "name": one.name,
        "target": one.target,
        "counter": one.counter,
        "label": one.version,
        "sha256": one.sha256,
        "length": one.length,
        "url": one.url,
    }


def to_wanted(row: AnyRow) -> Wanted:
    """Read one piece of software."""
    return Wanted(row.name, row.target, row.counter, row.label, row.sha256, row.length, row.url)


def from_upgrade(one: Upgrade) -> Values:
    """Return the row of how far one piece of software got."""
    held = one.committed
    return {
        "device_id": one.device_id,
        "name": one.name,
        "phase": one.phase,
        "why": one.why,
        "attempt": one.attempt,
        "since": rows.stamp(one.since),
        "assignment": one.assignment,
        "word": one.word,
        "committed_counter": None if held is None else held.counter,
        "committed_label": None if held is None else held.version,
        "committed_sha256": None if held is None else held.sha256,
        "committed_at": None if held is None else rows.stamp(held.at),
    }


def to_upgrade(row: AnyRow) -> Upgrade:
    """Read how far one piece of software got."""
    held = None
    if row.committed_counter is not None:
        at = rows.moment(row.committed_at)
        held = Committed(row.committed_counter, row.committed_label, row.committed_sha256, at)
    return Upgrade(
        device_id=DeviceId(row.device_id),
        name=row.name,
        phase=Phase(row.phase),
        why=None if row.why is None else Why(row.why),
        attempt=row.attempt,
        since=rows.moment(row.since),
        assignment=row.assignment,
        word=row.word,
        committed=held,
    )
