"""Assignments and words about them, for tests."""

from dataclasses import replace
from datetime import datetime

from fleetward_schemas.moment import to_ms
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Progress, Why
from fleetward_server import upgrade
from fleetward_server.store import Store
from fleetward_server.upgrade_state import Assignment, Wanted


def wanted(counter: int = 7, **changes: object) -> Wanted:
    """Return firmware 1.<counter>."""
    path = f"firmware/scanner-1.{counter}.bin"
    url = f"https://127.0.0.1:9443/targets/{path}"
    digest = f"{counter:042d}A"
    row = Wanted("firmware", path, counter, f"1.{counter}", digest, 1000 + counter, url)
    return replace(row, **changes)  # type: ignore[arg-type]


def assignment(device_id: DeviceId, now: datetime, *each: Wanted, **changes: object) -> Assignment:
    """Return an assignment of now, of firmware 1.7 unless something else is named."""
    row = Assignment(device_id, to_ms(now), each or (wanted(),), "operator:ann", "because", now)
    return replace(row, **changes)  # type: ignore[arg-type]


def assign(store: Store, made: Assignment, now: datetime) -> Assignment:
    """Give a device an assignment."""
    with store.unit() as rows:
        device = rows.device(made.device_id)
        assert device is not None
        rows.apply([upgrade.put(made, device, now)])
    return made


def progress(
    version: int, state: Phase, *, attempt: int = 1, reason: Why | None = None, name: str = "firmware"
) -> Progress:
    """Return a device's word."""
    return Progress(assignmentVersion=version, name=name, state=state, reason=reason, attempt=attempt)
