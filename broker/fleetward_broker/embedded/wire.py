"""The rarer MQTT 3.1.1 packets as bytes, mostly through amqtt's packet classes; ``packets`` has the frequent ones.

Rule: one spelling per packet. What amqtt decodes must encode to the very same bytes, or it is malformed: no trailing
bytes, no bad UTF-8, no missing field, no overlong length. QoS 2 is not spoken. Source: MQTT 3.1.1 sections 2 and 3.
"""

import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from fleetward_broker.framing import Packet
from fleetward_broker.packets import Publish
from fleetward_schemas.errors import Code, LocalMistake, Refused

T = TypeVar("T")
P = TypeVar("P", bound=MQTTPacket[Any, Any, Any])
UNREADABLE = (AMQTTError, CodecError, MQTTError, NoDataError, ValueError, IndexError, TypeError, struct.error)
REFUSED = 0x80  # a member of a SUBACK
PINGRESP = b"\xd0\x00"
PROTOCOL = b"\x00\x04MQTT"
LEVEL = 4
WILL, WILL_QOS, WILL_RETAIN, PASSWORD, USERNAME = 0x04, 0x18, 0x20, 0x40, 0x80


class Kind(IntEnum):
    """The packets a client may send."""

    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    UNSUBSCRIBE = 10
    PINGREQ = 12
    DISCONNECT = 14


class Answer(IntEnum):
    """Return codes of CONNACK."""

    WELCOME = 0
    WRONG_LEVEL = 1
    BAD_CLIENT_ID = 2
    UNAVAILABLE = 3
    NOT_ALLOWED = 5


class Unwelcome(Refused):
    """A CONNECT that is refused with an answer. answer: for CONNACK."""

    def __init__(self, answer: Answer, detail: str) -> None:
        super().__init__(Code.NOT_ALLOWED, detail)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT. will: as the PUBLISH it may become."""

    client_id: str
    clean: bool
    keep_alive_s: int
    will: Publish | None = None


def check_empty(packet: Packet) -> None:
    """Check a PINGREQ or DISCONNECT.

    Raises:
        Refused: ``malformed``.
    """
    if packet.raw[0] & 0x0F or packet.body_bytes:
        raise Refused(Code.MALFORMED, f"packet type {packet.kind} has no flags and no body")


def read_connect(packet: Packet) -> Connect:
    """Read a CONNECT.

    Raises:
        Unwelcome: another protocol level, an empty client id, a will at QoS 2. Refused: ``malformed``.
    """
    raw, start = packet.raw, packet.start
    if raw[start : start + 6] == PROTOCOL and raw[start + 6 : start + 7] not in {b"", bytes([LEVEL])}:
        raise Unwelcome(Answer.WRONG_LEVEL, f"protocol level {raw[start + 6]}: {LEVEL} is spoken")
    read = _decode(ConnectPacket, packet, flags=0)
    header, payload = read.variable_header, read.payload
    if header is None or payload is None or header.proto_name != "MQTT":
        raise Refused(Code.MALFORMED, "not a CONNECT of MQTT 3.1.1")
    if payload.client_id_is_random:
        payload.client_id = ""
    _same(read, packet)
    _check_flags(header.flags)
    if not payload.client_id:
        raise Unwelcome(Answer.BAD_CLIENT_ID, "no client id")
    will = _will(header.flags, payload.will_topic, payload.will_message)
    return Connect(payload.client_id, header.clean_session_flag, header.keep_alive, will)


def _check_flags(flags: int) -> None:
    """Raise Refused on flags that contradict each other: sections 3.1.2.3 to 3.1.2.9."""
    if flags & 1 or (not flags & WILL and flags & (WILL_QOS | WILL_RETAIN)):
        raise Refused(Code.MALFORMED, "CONNECT flags that contradict each other")
    if flags & PASSWORD and not flags & USERNAME:
        raise Refused(Code.MALFORMED, "a password without a user name")
    if flags & WILL_QOS == WILL_QOS:
        raise Refused(Code.MALFORMED, "a will at QoS 3")


def _will(flags: int, topic: str | None, payload: bytes | bytearray | None) -> Publish | None:
    if not flags & WILL:
        return None
    qos = (flags & WILL_QOS) >> 3
    if qos > 1:
        raise Unwelcome(Answer.NOT_ALLOWED, "a will at QoS 2: 0 and 1 are spoken")
    return Publish(topic or "", bytes(payload or b""), qos, bool(flags & WILL_RETAIN))


def read_subscribe(packet: Packet) -> tuple[int, list[tuple[str, int]]]:
    """Return packet identifier and (filter, QoS) pairs of a SUBSCRIBE.

    Raises:
        Refused: ``malformed``.
    """
    read = _decode(SubscribePacket, packet, flags=2)
    _same(read, packet)
    if read.variable_header is None or read.payload is None or not read.payload.topics:
        raise Refused(Code.MALFORMED, "a SUBSCRIBE to nothing")
    if any(qos > 2 for _, qos in read.payload.topics):
        raise Refused(Code.MALFORMED, "a subscription at QoS 3")
    return _identified(read.variable_header.packet_id), read.payload.topics


def read_unsubscribe(packet: Packet) -> tuple[int, list[str]]:
    """Return packet identifier and filters of an UNSUBSCRIBE.

    Raises:
        Refused: ``malformed``.
    """
    read = _decode(UnsubscribePacket, packet, flags=2)
    _same(read, packet)
    if read.variable_header is None or read.payload is None or not read.payload.topics:
        raise Refused(Code.MALFORMED, "an UNSUBSCRIBE from nothing")
    return _identified(read.variable_header.packet_id), read.payload.topics


def connack(answer: Answer, *, session_present: bool = False) -> bytes:
    """Return a CONNACK packet."""
    return ConnackPacket.build(int(session_present), answer).to_bytes()


def suback(packet_id: int, codes: list[int]) -> bytes:
    """Return a SUBACK packet."""
    return SubackPacket.build(packet_id, codes).to_bytes()


def unsuback(packet_id: int) -> bytes:
    """Return an UNSUBACK packet."""
    return UnsubackPacket.build(packet_id).to_bytes()


def _identified(packet_id: int) -> int:
    if not packet_id:
        raise Refused(Code.MALFORMED, "packet identifier 0")
    return packet_id


def _decode(kind: type[P], packet: Packet, *, flags: int) -> P:
    if packet.raw[0] & 0x0F != flags:
        raise Refused(Code.MALFORMED, f"packet type {packet.kind} has flags {flags}")
    try:
        return _run(kind.from_stream(BufferReader(packet.raw)))
    except UNREADABLE as error:
        raise Refused(Code.MALFORMED, f"packet type {packet.kind}: {type(error).__name__}") from None


def _same(read: MQTTPacket[Any, Any, Any], packet: Packet) -> None:
    try:
        spelled = read.to_bytes()
    except UNREADABLE:
        spelled = b""
    if spelled != packet.raw:
        raise Refused(Code.MALFORMED, f"packet type {packet.kind} in another spelling")


def _run(decoder: Coroutine[Any, Any, T]) -> T:
    """Run to its end a decoder that reads from a buffer and therefore never waits."""
    try:
        decoder.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise LocalMistake("a decoder waits for bytes that are all there")
