"""Replay window: which numbers of one signing key on one topic were already taken.

Numbers are milliseconds of trusted time, so a lost disk or a restored backup never locks a sender out.
Source: RFC 4303 section 3.4.3 (sliding anti-replay window), protocol section 3 (``seq``).
"""

from typing import NamedTuple

from fleetward_schemas.errors import Code, Refused

WIDTH = 128


class ReplayWindow(NamedTuple):
    """Numbers accepted from one key on one topic.

    highest: the largest number accepted; 0 before the first message.
    seen: bit i is set when ``highest - i`` was accepted; WIDTH bits.
    """

    highest: int = 0
    seen: int = 0

    def holds(self, number: int) -> bool:
        """Say whether ``number`` was accepted before and is still remembered: a duplicate, nothing to do."""
        behind = self.highest - number
        return 0 <= behind < WIDTH and bool(self.seen >> behind & 1)

    def accept(self, number: int) -> "ReplayWindow":
        """Return the window once ``number`` (>= 1, not held) is accepted.

        Raises:
            Refused: ``replayed``: accepted before, or WIDTH or more below ``highest``.
        """
        ahead = number - self.highest
        if number < 1 or self.holds(number) or -ahead >= WIDTH:
            raise Refused(Code.REPLAYED, f"number {number}: highest accepted is {self.highest}")
        if ahead <= 0:
            return ReplayWindow(self.highest, self.seen | 1 << -ahead)
        # min(): a huge jump must not shift a huge integer into being.
        shifted = self.seen << min(ahead, WIDTH)
        return ReplayWindow(number, (shifted | 1) & (1 << WIDTH) - 1)


def next_seq(now_ms: int, last: int) -> int:
    """Return the number to send: the sender's trusted milliseconds, or ``last + 1`` where that is greater."""
    return max(now_ms, last + 1)
