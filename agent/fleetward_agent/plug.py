"""What is plugged in, as plain values: one look at the bus against the one before, when to look, where a plug stands.

Rule: what counts is what is there, never what an event said of it; a flood of events is one look. Pure.
Source: C4 (plug and play).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from fleetward_schemas.errors import LocalMistake

MS_US = 1000
SETTLE_US = 200 * MS_US
"""How long the bus must be quiet before it is looked at."""
MOST_SETTLE_US = 1000 * MS_US
"""A bus that is never quiet is looked at all the same."""
ANYWAY_US = 60_000 * MS_US
"""An event may be lost: the bus is looked at once a minute even when it was quiet."""


@dataclass(frozen=True, slots=True)
class Plugged:
    """One thing on the bus. port: its path in sysfs. properties: of udev, sorted; another number is another plug."""

    port: str
    properties: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """Return a property."""
        return dict(self.properties).get(name)

    @property
    def ids(self) -> str:
        """Vendor and product, for people."""
        return f"{self.get('ID_VENDOR_ID') or '?'}:{self.get('ID_MODEL_ID') or '?'}"


def look(previous: frozenset[Plugged], now: frozenset[Plugged]) -> tuple[frozenset[Plugged], frozenset[Plugged]]:
    """Return what arrived and what is gone. Another thing on the same port is both."""
    return now - previous, previous - now


@dataclass(frozen=True, slots=True)
class Settle:
    """When to look next. first_us: of the events since the last look. A new one looks at once (coldplug)."""

    first_us: int | None = None
    due_us: int = 0

    def stirred(self, now_us: int) -> "Settle":
        """Wait for quiet after an event, but not for ever."""
        first = now_us if self.first_us is None else self.first_us
        return Settle(first, min(now_us + SETTLE_US, first + MOST_SETTLE_US))

    def looked(self, now_us: int) -> "Settle":
        """Wait for the next event."""
        return Settle(None, now_us + ANYWAY_US)


class Stand(StrEnum):
    """Where a plug stands. WAITING: its name or papers cannot be had now. UNREADY: attached, its program fails."""

    SEEN = "seen"
    UNKNOWN = "unknown"
    ASKED = "asked"
    WAITING = "waiting"
    ATTACHED = "attached"
    UNREADY = "unready"
    LEAVING = "leaving"
    GONE = "gone"


class Move(StrEnum):
    """What moves a plug on. LEFT: ``offline`` was said and the line is gone."""

    STRANGE = "strange"
    MATCHED = "matched"
    NAMED = "named"
    UNSURE = "unsure"
    PUZZLED = "puzzled"
    AGAIN = "again"
    PULLED = "pulled"
    LEFT = "left"


NEXT: dict[Stand, dict[Move, Stand]] = {
    Stand.SEEN: {Move.STRANGE: Stand.UNKNOWN, Move.MATCHED: Stand.ASKED},
    Stand.UNKNOWN: {Move.PULLED: Stand.GONE},
    Stand.ASKED: {
        Move.NAMED: Stand.ATTACHED,
        Move.UNSURE: Stand.UNREADY,
        Move.PUZZLED: Stand.WAITING,
        Move.PULLED: Stand.GONE,
    },
    Stand.WAITING: {Move.AGAIN: Stand.ASKED, Move.PULLED: Stand.GONE},
    Stand.ATTACHED: {Move.PULLED: Stand.LEAVING},
    Stand.UNREADY: {Move.NAMED: Stand.ATTACHED, Move.PULLED: Stand.LEAVING},
    Stand.LEAVING: {Move.LEFT: Stand.GONE},
    Stand.GONE: {},
}


def advance(stand: Stand, move: Move) -> Stand:
    """Return where a plug stands after ``move``.

    Raises:
        LocalMistake: the table has no such move.
    """
    try:
        return NEXT[stand][move]
    except KeyError:
        raise LocalMistake(f"{move} while {stand}") from None


FIRST_WAIT_US = 5_000 * MS_US
MOST_WAIT_US = 60_000 * MS_US


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a plug is tried again: after 5 s, doubling to a minute. said: the problem last logged."""

    tries: int = 0
    due_us: int = 0
    said: str = field(default="")

    def after(self, problem: str, now_us: int) -> "Patience":
        """Wait after one more failure."""
        wait_us = min(MOST_WAIT_US, FIRST_WAIT_US << min(self.tries, 8))
        return Patience(self.tries + 1, now_us + wait_us, problem)
