"""Pace: how fast one principal may speak, as a bucket of tokens. Over it, the answer is a wait, never a loss."""


class Pace:
    """A bucket of ``burst`` tokens that fills at ``per_s``; 0 per second is no bound."""

    def __init__(self, per_s: int, burst: int, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def spend(self, count: int, now: float) -> float:
        """Take ``count`` tokens and return the seconds to wait until none is owed."""
        if not self._per_s:
            return 0.0
        self._fill(now)
        self._tokens -= count
        return max(0.0, -self._tokens / self._per_s)

    def is_full(self, now: float) -> bool:
        """Say whether nothing of the past matters any more."""
        self._fill(now)
        return not self._per_s or self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._per_s)
        self._at = now
