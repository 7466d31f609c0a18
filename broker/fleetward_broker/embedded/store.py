"""What outlives the broker's process: kept sessions, their subscriptions, queued QoS 1 messages, retained messages.

Rule: changes are written in the order of the turn that made them and are durable when ``commit`` returns; a PUBACK is
sent after that. The router is the truth while the process lives; a store is read once, at its start.
"""

from dataclasses import dataclass, field
from typing import Protocol


class StoreUnusable(Exception):  # noqa: N818 - says what is wrong with the input
    """The store cannot be opened or written; the message names it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as published. number: rises; 0 while nothing durable refers to it."""

    topic: str
    payload: bytes
    qos: int
    number: int = 0

    @property
    def size(self) -> int:
        """What it costs to hold."""
        return len(self.topic) + len(self.payload)


@dataclass(frozen=True, slots=True)
class Copy:
    """A message on its way to one session. retain: a copy of a retained one; again: may have been sent before."""

    message: Message
    retain: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class KeepSession:
    """A session to keep. seen: POSIX seconds of its last connection's begin or end."""

    client_id: str
    seen: int


@dataclass(frozen=True, slots=True)
class DropSession:
    """A session to forget, with its subscriptions; its queue was dequeued before."""

    client_id: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription of a kept session."""

    client_id: str
    wanted: str
    qos: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The end of one."""

    client_id: str
    wanted: str


@dataclass(frozen=True, slots=True)
class KeepMessage:
    """A message that queues or retained topics will refer to."""

    message: Message


@dataclass(frozen=True, slots=True)
class Enqueue:
    """One message for one kept session."""

    client_id: str
    number: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Dequeue:
    """Acknowledged by its session."""

    client_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Retain:
    """The retained message of a topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Unretain:
    """No retained message any more."""

    topic: str


Change = KeepSession | DropSession | Subscribe | Unsubscribe | KeepMessage | Enqueue | Dequeue | Retain | Unretain


@dataclass(slots=True)
class KeptSession:
    """A session as it was kept. queue: in the order in which it is to be sent."""

    seen: int
    subscriptions: dict[str, int] = field(default_factory=dict)
    queue: list[Copy] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """All that outlived the last process. last_number: the highest message number given so far."""

    sessions: dict[str, KeptSession] = field(default_factory=dict)
    retained: dict[str, Message] = field(default_factory=dict)
    last_number: int = 0


class Store(Protocol):
    """Durable memory, written by one router."""

    def load(self) -> Kept:
        """Return what was kept."""
        ...

    def write(self, change: Change) -> None:
        """Take one change; it becomes durable soon, and before the next ``commit`` returns."""
        ...

    async def commit(self) -> None:
        """Return once all that was written before is durable. Raises StoreUnusable."""
        ...

    async def close(self) -> None:
        """Make durable what was written, then let go."""
        ...
