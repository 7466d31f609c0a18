"""What the link says and is told: plain values between the one selector and its owner.

A *line* is one MQTT connection. The owner opens a line with a ``Dial`` maker, polls events, and decides itself whether
to open again: the link never redials by itself, so a device that may not come back does not.
Source: deploy/decisions/0001 "One concurrency style"; MQTT 3.1.1.
"""

import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NewType, Protocol

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

LineId = NewType("LineId", int)
Token = NewType("Token", int)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker shall say when the line dies without DISCONNECT."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    """How to connect once. subscriptions: (filter, QoS) pairs, made before ``Connected`` is told."""

    host: str
    port: int
    server_name: str
    client_id: str
    context: ssl.SSLContext
    clean: bool
    subscriptions: tuple[tuple[str, int], ...] = ()
    keep_alive_s: int = 60
    will: Will | None = None


class Loss(StrEnum):
    """Why a line ended or never began."""

    UNREACHABLE = "unreachable"
    TLS_REFUSED = "tls-refused"
    CERTIFICATE_NOT_VALID_NOW = "certificate-not-valid-now"
    CONNECT_REFUSED = "connect-refused"
    SUBSCRIBE_REFUSED = "subscribe-refused"
    DROPPED = "dropped"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Connected:
    """CONNACK and every SUBACK came. Messages of a kept session may arrive before this."""

    line: LineId
    session_present: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The line is gone for good; open a new one. detail: for the log."""

    line: LineId
    loss: Loss
    detail: str = ""


class Arrived(NamedTuple):
    """A message. QoS 1 is acknowledged only by ``ack``, in the order of arrival."""

    line: LineId
    topic: str
    payload: bytes
    qos: int
    retained: bool
    mid: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker took a QoS 1 publish; it proves nothing end to end."""

    line: LineId
    token: Token


@dataclass(frozen=True, slots=True)
class Readable:
    """A file descriptor given to ``watch`` is readable."""

    tag: str


Event = Connected | Lost | Arrived | Delivered | Readable
DialMaker = Callable[[], Dial]


class Publisher(Protocol):
    """Whatever takes sealed messages: a line, or a file that is carried."""

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        """Queue a publish; None when the line is not connected (nothing is kept)."""
        ...


class Link(Publisher, Protocol):
    """The guarded line as its owner sees it; one thread owns it."""

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        """Begin a line ``after_s`` from now; ``dial`` is called just before CONNECT, so that a will can be fresh."""
        ...

    def poll(self, timeout_s: float, most: int = 1000) -> list[Event]:
        """Return at most about ``most`` events, waiting up to ``timeout_s`` for the first."""
        ...

    def ack(self, arrived: Arrived) -> None:
        """Acknowledge one QoS 1 message; call it after the commit that holds its effects."""
        ...

    def watch(self, fileobj: "FileDescriptorLike", tag: str) -> None:
        """Tell ``Readable(tag)`` once in each poll while ``fileobj`` is readable."""
        ...

    def subscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        """Listen to more, at QoS 1, on a line that is connected; nothing on any other. A refusal is not told."""
        ...

    def unsubscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        """Listen to less, on a line that is connected; nothing on any other. What is on its way still arrives."""
        ...

    def close(self, line: LineId) -> None:
        """Send DISCONNECT once what is queued was written, then end the line: no will is published."""
        ...


def backoff_s(attempt: int, chance: float, *, first_s: float = 1.0, most_s: float = 300.0) -> float:
    """Return the full-jitter wait before dial ``attempt`` (1 is the first repeat). chance: uniform in [0, 1)."""
    return chance * min(most_s, math.ldexp(first_s, min(attempt, 32)))
