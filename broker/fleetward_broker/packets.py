"""PUBLISH and PUBACK as bytes, at both ends of a line: they come thousands of times a second, so they are read by hand.

Rule: one spelling per packet; QoS 2 is not spoken. Source: MQTT 3.1.1 sections 3.3 and 3.4.
"""

from typing import NamedTuple

from fleetward_broker.framing import Packet
from fleetward_schemas.errors import Code, Refused


class Publish(NamedTuple):
    """A PUBLISH. packet_id: 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int = 0


def read_publish(packet: Packet) -> Publish:
    """Read a PUBLISH.

    Raises:
        Refused: ``malformed``; ``not-allowed``: QoS 2.
    """
    raw, start = packet.raw, packet.start
    qos = raw[0] >> 1 & 3
    if qos > 1:
        raise Refused(Code.NOT_ALLOWED, f"QoS {qos}: 0 and 1 are spoken")
    if not qos and raw[0] & 8:
        raise Refused(Code.MALFORMED, "DUP at QoS 0")
    end = start + 2 + int.from_bytes(raw[start : start + 2])
    body = end + 2 * qos
    if packet.body_bytes < 2 or body > len(raw):
        raise Refused(Code.MALFORMED, "a PUBLISH shorter than its topic")
    packet_id = int.from_bytes(raw[end:body])
    if qos and not packet_id:
        raise Refused(Code.MALFORMED, "packet identifier 0")
    return Publish(_text(raw[start + 2 : end]), raw[body:], qos, bool(raw[0] & 1), packet_id)


def read_puback(packet: Packet) -> int:
    """Return the packet identifier of a PUBACK.

    Raises:
        Refused: ``malformed``.
    """
    if packet.raw[0] & 0x0F or packet.body_bytes != 2:
        raise Refused(Code.MALFORMED, "not a PUBACK")
    return int.from_bytes(packet.raw[packet.start :])


def publish(message: Publish, *, again: bool = False) -> bytes:
    """Return the PUBLISH packet. again: DUP, a delivery that may have been made before."""
    topic = message.topic.encode()
    head = 0x30 | again << 3 | message.qos << 1 | message.retain
    packet_id = message.packet_id.to_bytes(2) if message.qos else b""
    length = _length(2 + len(topic) + len(packet_id) + len(message.payload))
    return b"".join((bytes((head,)), length, len(topic).to_bytes(2), topic, packet_id, message.payload))


def puback(packet_id: int) -> bytes:
    """Return a PUBACK packet."""
    return b"\x40\x02" + packet_id.to_bytes(2)


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.MALFORMED, "a topic that is not UTF-8") from None
