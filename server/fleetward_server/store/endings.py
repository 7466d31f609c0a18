"""When the certificates of devices end, in numbers. Source: ending.py for who warns of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select

from fleetward_server.state import Use
from fleetward_server.store import rows, tables
from fleetward_server.store.ground import Ground
from fleetward_server.store.lookups import LIVE

LEVELS_DAYS = (30, 14, 7, 1)
THERE = timedelta(days=1)
"""A device that was heard within this time is there, and should have been renewed long ago."""
_certificates, _sightings = tables.certificates, tables.sightings


@dataclass(frozen=True, slots=True)
class DeviceEndings:
    """Devices by when the last of their certificates ends. every: with one that counts; ended: of them, over already.

    within: days -> how many end in that time; there: of those nearest to it, how many are heard all the same.
    """

    every: int
    ended: int
    within: Mapping[int, int]
    there: int

    def __str__(self) -> str:
        """Say it on one line, the nearest first."""
        near = ", ".join(f"{number} within {days} d" for days, number in sorted(self.within.items()))
        return f"of {self.every} devices the last ends: {near}; ended: {self.ended}"


class EndingQueries(Ground):
    """Counts over the last live device certificate of each device."""

    def device_endings(self, now: datetime) -> DeviceEndings:
        """Count devices by how soon their last certificate ends."""
        last = select(_certificates.c.device_id, func.max(_certificates.c.not_after).label("ends"))
        last = last.where(_certificates.c.use == Use.DEVICE, _certificates.c.state.in_(LIVE))
        each = last.group_by(_certificates.c.device_id).subquery()
        within = {days: _between(each.c.ends, now, now + timedelta(days=days)) for days in LEVELS_DAYS}
        there = and_(within[min(LEVELS_DAYS)], _sightings.c.seen_at > rows.stamp(now - THERE))
        columns: list[Any] = [
            func.count().label("every"),
            _sum(each.c.ends <= rows.stamp(now)).label("ended"),
            _sum(there).label("there"),
            *(_sum(condition).label(f"within_{days}") for days, condition in within.items()),
        ]
        counted = select(*columns).select_from(each.outerjoin(_sightings, _sightings.c.device_id == each.c.device_id))
        (row,) = self._all(counted)
        found = {days: int(getattr(row, f"within_{days}") or 0) for days in LEVELS_DAYS}
        return DeviceEndings(int(row.every), int(row.ended or 0), found, int(row.there or 0))


def _between(ends: ColumnElement[int], now: datetime, limit: datetime) -> ColumnElement[bool]:
    return and_(ends > rows.stamp(now), ends <= rows.stamp(limit))


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
