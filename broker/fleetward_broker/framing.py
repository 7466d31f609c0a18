"""Framing: from bytes as they come in to whole packets, one read giving many.

Rule: a length is spelled in its shortest form, and a packet over the gate's size is refused as soon as its length is
known, before it is kept. Source: MQTT 3.1.1 section 2.2.3; protocol section 2.
"""

from collections.abc import Iterator
from typing import NamedTuple

from fleetward_broker.gate import MAX_PACKET_BYTES
from fleetward_schemas.errors import Code, Refused


class Packet(NamedTuple):
    """One whole packet. start: where its body begins in ``raw``."""

    raw: bytes
    start: int

    @property
    def kind(self) -> int:
        """The packet type."""
        return self.raw[0] >> 4

    @property
    def body_bytes(self) -> int:
        """The remaining length."""
        return len(self.raw) - self.start


class Splitter:
    """Bytes as they come in, packets as they are whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Yield the packets that ``chunk`` completes.

        Raises:
            Refused: ``malformed`` length; ``too-large``, as soon as the length is known.
        """
        buffer = self._rest + chunk if self._rest else chunk
        at = 0
        while (frame := _frame(buffer, at)) is not None:
            start, end = frame
            yield Packet(buffer[at:end], start - at)
            at = end
        self._rest = buffer[at:]


def _frame(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at ``at`` begins and ends, None while it is incomplete."""
    length = 0
    for place in range(4):
        index = at + 1 + place
        if index >= len(buffer):
            return None
        byte = buffer[index]
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if place and not byte:
                raise Refused(Code.MALFORMED, "an overlong length")
            end = index + 1 + length
            if end - at > MAX_PACKET_BYTES:
                raise Refused(Code.TOO_LARGE, f"{end - at} bytes: {MAX_PACKET_BYTES} make a packet")
            return (index + 1, end) if end <= len(buffer) else None
    raise Refused(Code.MALFORMED, "a length of more than 4 bytes")
