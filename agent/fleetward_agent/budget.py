"""What a metered link may carry in a day: when it is spent, telemetry and device info wait for the next one.

Counted are topics and envelopes, both ways; TLS, TCP and pings come on top. A day is one of trusted time, UTC. Results,
alerts, the status and the device's own questions always leave: without them nobody would know what is the matter.
Source: S8 (intermittently connected devices).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from fleetward_agent.urgency import ALWAYS, EVERY
from fleetward_schemas.moment import to_ms

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Budget:
    """bytes_per_day: 0 where nobody counts. day: since 1970; spent: bytes of that day."""

    bytes_per_day: int = 0
    day: int = 0
    spent: int = 0

    def at(self, now: datetime) -> "Budget":
        """Return the budget of the day that ``now`` is in; a day never comes back."""
        if not self.bytes_per_day:
            return self
        day = to_ms(now) // DAY_MS
        return replace(self, day=day, spent=0) if day > self.day else self

    def spend(self, size_bytes: int) -> "Budget":
        """Return what is left after a message."""
        return replace(self, spent=self.spent + size_bytes) if self.bytes_per_day else self

    @property
    def over(self) -> bool:
        """Whether all of it is spent."""
        return 0 < self.bytes_per_day <= self.spent

    @property
    def priorities(self) -> range:
        """What may leave now."""
        return ALWAYS if self.over else EVERY
