"""How much one device may say: so many questions and reports a second, so many reports and bytes a day.

Each is a bucket that fills steadily and holds what may come at once. They are kept in memory, per worker: a restart
forgives. Beyond them a message is refused as ``too-often``, which for a report means: again, later. Nothing is lost.
Source: protocol section 3 ("Checks"), the code ``too-often``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import sub
from typing import NamedTuple

from fleetward_schemas.envelope import Opened
from fleetward_schemas.errors import Code, Refused
from fleetward_server.caches import Lru
from fleetward_server.settings import LimitsTable

QUESTIONS = frozenset({"time", "hello", "csr"})
DAY_S = 86_400
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """most: what the bucket holds, and how much comes at once; per_s: how fast it fills. said: the rule in words."""

    most: float
    per_s: float
    said: str


class Buckets(NamedTuple):
    """How much is left under each of some rules at a moment of CLOCK_MONOTONIC."""

    left: tuple[float, ...]
    at_s: float

    def at(self, rules: Sequence[Rule], now_s: float) -> "Buckets":
        """Return the buckets as they have filled since."""
        if now_s == self.at_s:
            # The messages of one batch.
            return self
        passed_s = max(0.0, now_s - self.at_s)
        filled = (min(rule.most, left + passed_s * rule.per_s) for rule, left in zip(rules, self.left, strict=True))
        return Buckets(tuple(filled), now_s)

    def drawn(self, rules: Sequence[Rule], costs: Sequence[float]) -> "Buckets":
        """Return the buckets with ``costs`` taken from them, from all or from none.

        Raises:
            Refused: ``too-often``, naming the rule.
        """
        left = tuple(map(sub, self.left, costs))
        if min(left) < 0:
            raise Refused(Code.TOO_OFTEN, next(rule.said for rule, rest in zip(rules, left, strict=True) if rest < 0))
        return Buckets(left, self.at_s)


QUESTION = Rule(5, 1, "one a second")


@lru_cache(maxsize=16)
def rules_of(table: LimitsTable) -> tuple[Rule, Rule, Rule]:
    """Return the rules for reports: a second's, a day's number, a day's bytes."""
    day_bytes = table.mib_per_day * MIB
    return (
        Rule(table.reports_burst, table.reports_per_s, f"{table.reports_per_s} reports a second"),
        Rule(table.reports_per_day, table.reports_per_day / DAY_S, f"{table.reports_per_day} reports a day"),
        Rule(day_bytes, day_bytes / DAY_S, f"{table.mib_per_day} MiB a day"),
    )


class Limits:
    """The buckets of all devices heard lately."""

    def __init__(self) -> None:
        """Begin with every bucket full."""
        self._buckets: Lru[Buckets] = Lru()

    def check(self, opened: Opened, size_bytes: int, table: LimitsTable, now_s: float) -> None:
        """Draw what one message costs.

        Raises:
            Refused: ``too-often``: beyond what this device may say.
        """
        if opened.kind.name in QUESTIONS:
            self._draw(opened.members.topic, (QUESTION,), (1,), now_s)
        elif opened.kind.report and opened.address.principal is not None:
            self._draw(opened.address.principal.name, rules_of(table), (1, 1, size_bytes), now_s)

    def _draw(self, key: str, rules: Sequence[Rule], costs: Sequence[float], now_s: float) -> None:
        known = self._buckets.get(key) or Buckets(tuple(rule.most for rule in rules), now_s)
        full = known.at(rules, now_s)
        try:
            self._buckets.put(key, full.drawn(rules, costs))
        except Refused:
            self._buckets.put(key, full)
            raise
