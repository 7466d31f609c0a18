"""Message ids: UUID version 7, strictly rising for one sender, so that sorting by id is the sender's own order.

Source: RFC 9562 sections 5.7 and 6.2 (method 1: a counter in rand_a within one millisecond).
"""

from datetime import datetime
from uuid import UUID

from fleetward_schemas.moment import to_ms

RANDOM_BYTES = 8


def next_id(now: datetime, last: str | None, random: bytes) -> str:
    """Return an id above ``last``; the millisecond is ``now``'s unless ``last`` is already there.

    random: 8 fresh random bytes, of which 62 bits are used.
    """
    ms, counter = to_ms(now), 0
    if last is not None:
        before = UUID(last).int
        last_ms, last_counter = before >> 80, before >> 64 & 0xFFF
        if ms <= last_ms:
            ms, counter = (last_ms, last_counter + 1) if last_counter < 0xFFF else (last_ms + 1, 0)
    low = int.from_bytes(random, "big") & (1 << 62) - 1
    return str(UUID(int=ms << 80 | 7 << 76 | counter << 64 | 2 << 62 | low))
