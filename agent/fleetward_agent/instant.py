"""One moment of a turn: the boot clock read once, and fresh randomness, so that steps can be pure functions."""

import hashlib
from dataclasses import dataclass

SECOND_US = 1_000_000
SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Instant:
    """boot_us: CLOCK_BOOTTIME in microseconds. seed: 32 fresh random bytes, never used in two turns.

    slept_us: CLOCK_BOOTTIME less CLOCK_MONOTONIC, which grows by each suspend.
    """

    boot_us: int
    seed: bytes
    slept_us: int = 0

    def draw(self, label: str, size_bytes: int = 32) -> bytes:
        """Return up to 32 bytes for one purpose of this turn; the same label gives the same bytes."""
        return hashlib.sha256(self.seed + label.encode()).digest()[:size_bytes]

    def chance(self, label: str) -> float:
        """Return a number in [0, 1) for one purpose of this turn."""
        return int.from_bytes(self.draw(label, 6), "big") / 2**48

    def after_s(self, seconds: float) -> int:
        """Return the boot clock ``seconds`` from here."""
        return self.boot_us + int(seconds * SECOND_US)
