"""Fakes of the router's surroundings: a line that remembers, a store that lists what was written, packets by hand."""

from dataclasses import dataclass, field

from fleetward_broker.embedded.config import Limits
from fleetward_broker.embedded.router import Router
from fleetward_broker.embedded.session import Session
from fleetward_broker.embedded.store import Change, Kept
from fleetward_broker.embedded.wire import Connect
from fleetward_broker.framing import Splitter
from fleetward_broker.packets import Publish, read_publish
from fleetward_schemas.topics import Principal, principal_of

DEVICE, OTHER = "a" * 26, "b" * 26
SUFFIX = "0123456789abcdef"
NOW = 1_800_000_000


def principal(name: str) -> Principal:
    found = principal_of(name)
    assert found is not None
    return found


def topic(kind: str, name: str = DEVICE, way: str = "down") -> str:
    return f"fw/v1/d/{name}/{way}/{kind}"


@dataclass
class FakeLine:
    """A line whose client reads everything, or nothing when slow."""

    is_slow: bool = False
    raw: bytes = b""
    reasons: list[str] = field(default_factory=list)
    leave: "object" = None

    def send(self, packet: bytes) -> None:
        self.raw += packet

    def cut(self, reason: str) -> None:
        self.reasons.append(reason)
        if callable(self.leave):
            self.leave()

    def heard(self) -> list[Publish]:
        """Return what was sent so far, once."""
        raw, self.raw = self.raw, b""
        return [read_publish(packet) for packet in Splitter().feed(raw)]

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.heard()]


class MemoryStore:
    """A store that forgets."""

    def load(self) -> Kept:
        """Return nothing."""
        return Kept()

    def write(self, change: Change) -> None:
        """Forget it."""

    async def commit(self) -> None:
        """Return at once."""

    async def close(self) -> None:
        """Nothing is held."""


class ListStore(MemoryStore):
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written: list[Change] = []

    def write(self, change: Change) -> None:
        self.written.append(change)

    def of(self, kind: type) -> list[Change]:
        return [change for change in self.written if isinstance(change, kind)]


class Town:
    """A router with its clients."""

    def __init__(self, limits: Limits | None = None, kept: Kept | None = None) -> None:
        self.store = ListStore()
        self.router = Router(self.store, limits or Limits(), kept or Kept())

    def enter(
        self, name: str = DEVICE, *, clean: bool = False, suffix: str = SUFFIX, will: Publish | None = None
    ) -> tuple[Session, FakeLine]:
        line = FakeLine()
        hello = Connect(f"{name}-{suffix}", clean, 60, will)
        session, _ = self.router.enter(principal(name), hello, line, NOW)
        line.leave = lambda: self.router.leave(session, NOW, goodbye=False)
        session.resume()
        return session, line

    def publish(self, where: str, payload: bytes = b"x", *, qos: int = 1, retain: bool = False) -> bool:
        return self.router.publish(Publish(where, payload, qos, retain))
