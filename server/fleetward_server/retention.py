"""How long reports are kept, and how the old ones go: one small transaction at a time, batches of messages in between.

The audit, certificates and the journal never go. Source: C10 (nothing is kept for longer than it is needed).
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from fleetward_schemas.messages import KINDS
from fleetward_server.settings import RetentionTable
from fleetward_server.store import Store

ROWS = 1000
"""At most so many rows in one transaction."""
TELEMETRY = "telemetry"
REPORTS = tuple(sorted({kind.name for kind in KINDS.values() if kind.report}))
Job = Callable[[Store, datetime], int]


class Retention:
    """What is to be forgotten, in turn: each call of ``clean`` is one transaction."""

    def __init__(self, kept: RetentionTable) -> None:
        """Plan the jobs of one round."""
        self._jobs: tuple[Job, ...] = (
            lambda store, now: store.forget_windows(now, ROWS),
            lambda store, now: store.forget_challenges(now, ROWS),
            lambda store, now: store.forget_mass_targets(now - timedelta(days=kept.reports_days), ROWS),
            lambda store, now: store.forget_assignments(now - timedelta(days=kept.reports_days), ROWS),
            *(_pruned(kind, _days(kept, kind)) for kind in REPORTS),
        )
        self._next = 0

    def clean(self, store: Store, now: datetime) -> bool:
        """Do one transaction; say whether this round has more to do."""
        gone = self._jobs[self._next](store, now)
        if gone < ROWS:
            # A full transaction leaves more of its kind behind: that one goes on first.
            self._next = (self._next + 1) % len(self._jobs)
        return self._next != 0


def _days(kept: RetentionTable, kind: str) -> int:
    return kept.telemetry_days if kind == TELEMETRY else kept.reports_days


def _pruned(kind: str, days: int) -> Job:
    return lambda store, now: store.prune_reports(now - timedelta(days=days), kind, ROWS)
