"""How many new connections a second: a whole fleet that comes back at once must not keep the others from their pings.

Who is one too many is sent away before TLS, which costs next to nothing, and comes again after a random wait.
"""

from collections import deque


class Turnstile:
    """Lets at most ``per_s`` through in any one second."""

    def __init__(self, per_s: int) -> None:
        self._let: deque[float] = deque(maxlen=per_s)
        self._per_s = per_s
        self._told_at = 0.0
        self._turned_away = 0

    def lets_through(self, now: float) -> bool:
        """Take one more, or not. now: seconds of a clock that never goes back."""
        if len(self._let) == self._per_s and now - self._let[0] < 1.0:
            self._turned_away += 1
            return False
        self._let.append(now)
        return True

    def to_tell(self, now: float) -> int:
        """Return how many were turned away since this was asked last, once a second at most; else 0."""
        if not self._turned_away or now - self._told_at < 1.0:
            return 0
        told, self._turned_away, self._told_at = self._turned_away, 0, now
        return told
