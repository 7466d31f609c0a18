"""A bare MQTT 3.1.1 client over a TLS socket: says exactly what a test wants it to say, lawful or not."""

import socket
import ssl
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 9, 11, 13
PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"
WAIT_S = 60.0
QUIET_S = 0.3


@dataclass(frozen=True)
class Said:
    """One PUBLISH as it arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int


@dataclass(frozen=True)
class WillOf:
    topic: str
    payload: bytes = b"gone"
    qos: int = 1
    retain: bool = False


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def packet(head: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([head]) + length + body


def connect(client_id: str, *, clean: bool = True, keep_alive: int = 60, will: WillOf | None = None) -> bytes:
    flags, tail = 2 * clean, b""
    if will is not None:
        flags |= 4 | will.qos << 3 | 0x20 * will.retain
        tail = text(will.topic) + text(will.payload)
    return packet(0x10, text("MQTT") + bytes([4, flags]) + struct.pack("!H", keep_alive) + text(client_id) + tail)


def publish(topic: str | bytes, payload: bytes = b"x", *, qos: int = 1, mid: int = 1, retain: bool = False) -> bytes:
    return packet(0x30 | qos << 1 | retain, text(topic) + (struct.pack("!H", mid) if qos else b"") + payload)


def subscribe(*filters: str, qos: int = 1, mid: int = 1) -> bytes:
    return packet(0x82, struct.pack("!H", mid) + b"".join(text(f) + bytes([qos]) for f in filters))


def unsubscribe(*filters: str, mid: int = 1) -> bytes:
    return packet(0xA2, struct.pack("!H", mid) + b"".join(text(f) for f in filters))


def puback(mid: int) -> bytes:
    return b"\x40\x02" + struct.pack("!H", mid)


class Closed(ConnectionError):  # noqa: N818 - says what happened
    """The broker ended the connection."""


class RawClient:
    """One connection; everything waits for a bounded time."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        bare = socket.create_connection(("127.0.0.1", port), WAIT_S)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket = context.wrap_socket(bare, server_hostname="localhost")
        except OSError:
            bare.close()
            raise
        self._rest = b""
        self._said: deque[Said] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: bytes) -> None:
        self.socket.sendall(b"".join(packets))

    def enter(
        self, client_id: str, *, clean: bool = True, keep_alive: int = 60, will: WillOf | None = None
    ) -> tuple[int, bool]:
        """CONNECT; return the answer and whether a session was present."""
        self.send(connect(client_id, clean=clean, keep_alive=keep_alive, will=will))
        body = self.expect(CONNACK)
        return body[1], bool(body[0])

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """SUBSCRIBE; return the codes."""
        self.send(subscribe(*filters, qos=qos))
        return list(self.expect(SUBACK)[2:])

    def publish(self, topic: str, payload: bytes = b"x", *, mid: int = 1, retain: bool = False) -> None:
        """PUBLISH at QoS 1 and wait for PUBACK."""
        self.send(publish(topic, payload, mid=mid, retain=retain))
        self.expect(PUBACK)

    def hear(self, *, within_s: float = WAIT_S, ack: bool = True) -> Said:
        """Return the next message."""
        if not self._said:
            self.expect(PUBLISH, within_s)
        said = self._said.popleft()
        if said.qos and ack:
            self.send(puback(said.mid))
        return said

    def is_quiet(self) -> bool:
        """Say that nothing comes: a ping overtakes nothing, so what was sent before its answer has arrived."""
        self.send(PINGREQ)
        self.expect(PINGRESP)
        return not self._said

    def is_closed(self, within_s: float = WAIT_S) -> bool:
        """Say whether the broker ends the connection in time, whatever it says before."""
        try:
            while True:
                self._next(within_s)
        except Closed:
            return True
        except TimeoutError:
            return False

    def expect(self, kind: int, within_s: float = WAIT_S) -> bytes:
        """Return the body of the next packet of this kind; messages before it are kept for ``hear``."""
        while True:
            head, body = self._next(within_s)
            if head >> 4 == PUBLISH:
                self._said.append(_said(head, body))
            if head >> 4 == kind:
                return body

    def _next(self, within_s: float) -> tuple[int, bytes]:
        deadline = time.monotonic() + within_s
        while (found := self._whole()) is None:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                chunk = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise Closed(str(error)) from None
            if not chunk:
                raise Closed
            self._rest += chunk
        return found

    def _whole(self) -> tuple[int, bytes] | None:
        size = shift = 0
        for place, byte in enumerate(self._rest[1:5], start=2):
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if len(self._rest) < place + size:
                    return None
                head, body = self._rest[0], self._rest[place : place + size]
                self._rest = self._rest[place + size :]
                return head, body
        return None


def _said(head: int, body: bytes) -> Said:
    end = 2 + int.from_bytes(body[:2])
    qos = head >> 1 & 3
    mid = int.from_bytes(body[end : end + 2]) if qos else 0
    return Said(body[2:end].decode(), body[end + 2 * bool(qos) :], qos, bool(head & 1), bool(head & 8), mid)
