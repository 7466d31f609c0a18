"""A session: one client's subscriptions and what waits for it or is in flight to it, in order.

Rule: QoS 1 is sent once per connection and kept until acknowledged; after a reconnect what was in flight is sent
again first, in its order, with its identifiers and DUP. QoS 0 is dropped when the line is slow or absent.
Source: MQTT 3.1.1 sections 4.3, 4.4 and 4.6.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

from fleetward_broker.embedded.config import RoleLimits
from fleetward_broker.embedded.store import Copy, Message
from fleetward_broker.packets import Publish, publish
from fleetward_schemas.topics import Principal

MOST_ID = 65535


class Line(Protocol):
    """A connection as its session sees it."""

    @property
    def is_slow(self) -> bool:
        """Whether so much is unsent that QoS 0 is dropped."""
        ...

    def send(self, packet: bytes) -> None:
        """Queue one packet for writing."""
        ...

    def cut(self, reason: str) -> None:
        """End the connection now; its session leaves before this returns."""
        ...


@dataclass(slots=True)
class Session:
    """One client id's state. seen: POSIX seconds of the last connection's begin or end.

    is_ready: CONNACK was sent, so that deliveries may follow. dropped: messages lost since the queue became full.
    """

    client_id: str
    principal: Principal
    kept: bool
    limits: RoleLimits
    seen: int
    line: Line | None = None
    will: Publish | None = None
    is_ready: bool = False
    subscriptions: dict[str, int] = field(default_factory=dict)
    waiting: deque[Copy] = field(default_factory=deque)
    in_flight: dict[int, Copy] = field(default_factory=dict)
    queued_bytes: int = 0
    dropped: int = 0
    last_id: int = 0

    @property
    def has_room(self) -> bool:
        """Whether one more message fits the queue."""
        count = len(self.waiting) + len(self.in_flight)
        return count < self.limits.queue_messages and self.queued_bytes < self.limits.queue_bytes

    def deliver_once(self, message: Message, *, retain: bool = False) -> None:
        """Send at QoS 0, or drop."""
        if self.line is not None and self.is_ready and not self.line.is_slow:
            self.line.send(publish(Publish(message.topic, message.payload, 0, retain)))

    def enqueue(self, copy: Copy) -> None:
        """Queue at QoS 1 and send as far as the window allows; the caller asked ``has_room``."""
        self.waiting.append(copy)
        self.queued_bytes += copy.message.size
        self._pump()

    def acknowledge(self, packet_id: int) -> Copy | None:
        """Forget one message in flight and send what it made room for; None: no such identifier."""
        copy = self.in_flight.pop(packet_id, None)
        if copy is not None:
            self.queued_bytes -= copy.message.size
            self._pump()
        return copy

    def resume(self) -> None:
        """Begin to deliver on a new line: first again what was in flight."""
        self.is_ready = True
        for packet_id, copy in self.in_flight.items():
            self._send(packet_id, replace(copy, again=True))
        self._pump()

    def leave(self) -> None:
        """Part from the line."""
        self.line = None
        self.will = None
        self.is_ready = False

    def _pump(self) -> None:
        while self.is_ready and self.waiting and len(self.in_flight) < self.limits.window:
            copy = self.waiting.popleft()
            packet_id = self._next_id()
            self.in_flight[packet_id] = copy
            self._send(packet_id, copy)

    def _send(self, packet_id: int, copy: Copy) -> None:
        if self.line is not None:
            message = Publish(copy.message.topic, copy.message.payload, 1, copy.retain, packet_id)
            self.line.send(publish(message, again=copy.again))

    def _next_id(self) -> int:
        number = self.last_id % MOST_ID + 1
        while number in self.in_flight:
            number = number % MOST_ID + 1
        self.last_id = number
        return number
