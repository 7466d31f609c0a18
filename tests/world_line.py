"""A clock that stands still until moved, and a link with a broker in it that misbehaves when told to."""

import itertools
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from fleetward_broker.gate import Action, may
from fleetward_broker.line import Arrived, Connected, Dial, DialMaker, Event, LineId, Loss, Lost, Token
from fleetward_schemas.topics import Principal, principal_of

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND_US = 1_000_000


@dataclass
class FakeClock:
    """True time and the device's boot clock, which may drift. Both move only when told."""

    now: datetime = START
    boot_us: int = 500 * SECOND_US
    slept_us: int = 0
    drift_ppm: int = 0

    def suspend(self, seconds: float, off_s: float = 0.0) -> None:
        """Sleep; the hardware clock counts ``off_s`` too much of it."""
        self.pass_s(seconds)
        self.boot_us += int(off_s * SECOND_US)
        self.slept_us += int((seconds + off_s) * SECOND_US)

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.boot_us += ceil(seconds * (SECOND_US + self.drift_ppm)) if self.drift_ppm else int(seconds * SECOND_US)


@dataclass
class FakeLine:
    """One connection. unacked: what the broker keeps for it; topics: listened to beside the dial's."""

    dial: Dial
    principal: Principal
    unacked: list[Arrived] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)

    def hears(self, topic: str) -> bool:
        return topic in self.topics or any(_matches(wanted, topic) for wanted, _ in self.dial.subscriptions)


class FakeLink:
    """Link and broker in one. refuse: the loss that each new dial meets; deaf: publishes vanish."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.refuse: Loss | None = None
        self.deaf = False
        self.dials: list[Dial] = []
        self.lines: dict[LineId, FakeLine] = {}
        self.acked: list[str] = []
        self.published: deque[tuple[str, bytes]] = deque()
        self.wills: list[bytes] = []
        self.retained: dict[str, bytes] = {}
        self.kept_topics: dict[str, set[str]] = {}
        self.sessions: dict[str, list[tuple[str, bytes]]] = {}
        self._events: deque[Event] = deque()
        self._waiting: deque[tuple[LineId, DialMaker]] = deque()
        self._numbers = itertools.count(1)

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        line = LineId(next(self._numbers))
        self._waiting.append((line, dial))
        return line

    def poll(self, timeout_s: float, most: int = 1000) -> list[Event]:
        while self._waiting:
            self._connect(*self._waiting.popleft())
        if not self._events:
            self.clock.pass_s(timeout_s)
        return [self._events.popleft() for _ in range(min(most, len(self._events)))]

    def _connect(self, line: LineId, maker: DialMaker) -> None:
        dial = maker()
        self.dials.append(dial)
        principal = principal_of(dial.client_id.rpartition("-")[0])
        if self.refuse is not None or principal is None:
            self._events.append(Lost(line, self.refuse or Loss.CONNECT_REFUSED))
            return
        if not all(may(principal, Action.SUBSCRIBE, topic) for topic, _ in dial.subscriptions):
            self._events.append(Lost(line, Loss.SUBSCRIBE_REFUSED))
            return
        self.lines[line] = FakeLine(dial, principal, topics=self.kept_topics.pop(dial.client_id, set()))
        kept = self.sessions.pop(dial.client_id, [])
        for topic, raw in kept:
            self._deliver(line, topic, raw)
        self._events.append(Connected(line, session_present=bool(kept)))

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        held = self.lines.get(line)
        if held is None:
            return None
        if not self.deaf and may(held.principal, Action.PUBLISH, topic):
            self.published.append((topic, payload))
        return Token(next(self._numbers))

    def watch(self, fileobj: object, tag: str) -> None:
        """Nothing becomes readable in memory."""

    def ack(self, arrived: Arrived) -> None:
        held = self.lines.get(arrived.line)
        if held is not None:
            held.unacked.remove(arrived)
            self.acked.append(arrived.topic)

    def subscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        held = self.lines.get(line)
        if held is None:
            return
        for topic in topics:
            if may(held.principal, Action.SUBSCRIBE, topic):
                held.topics.add(topic)
                if topic in self.retained:
                    self._deliver(line, topic, self.retained[topic], retained=True)

    def unsubscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        if line in self.lines:
            self.lines[line].topics -= set(topics)

    def retain(self, topic: str, raw: bytes) -> None:
        """Keep it for whoever subscribes, and give it to those who did."""
        self.retained[topic] = raw
        self.send(topic, raw)

    def close(self, line: LineId) -> None:
        held = self.lines.pop(line, None)
        if held is not None:
            self._keep(held)
            self._events.append(Lost(line, Loss.CLOSED))

    def cut(self, loss: Loss = Loss.DROPPED) -> None:
        """Break every line; wills are published, unacknowledged messages kept for the sessions that live on."""
        for line, held in list(self.lines.items()):
            del self.lines[line]
            self._keep(held)
            if held.dial.will is not None:
                self.wills.append(held.dial.will.payload)
            self._events.append(Lost(line, loss))

    def _keep(self, held: FakeLine) -> None:
        if not held.dial.clean:
            self.kept_topics[held.dial.client_id] = held.topics
            self.sessions.setdefault(held.dial.client_id, []).extend((a.topic, a.payload) for a in held.unacked)

    def send(self, topic: str, raw: bytes, qos: int = 1) -> None:
        """Deliver to every line that subscribes to ``topic``."""
        for line, held in self.lines.items():
            if held.hears(topic):
                self._deliver(line, topic, raw, qos)

    def _deliver(self, line: LineId, topic: str, raw: bytes, qos: int = 1, *, retained: bool = False) -> None:
        arrived = Arrived(line, topic, raw, qos, retained=retained, mid=next(self._numbers))
        if qos:
            self.lines[line].unacked.append(arrived)
        self._events.append(arrived)


def _matches(wanted: str, topic: str) -> bool:
    if wanted.endswith("#"):
        return topic.startswith(wanted[:-1])
    levels, asked = topic.split("/"), wanted.split("/")
    return len(levels) == len(asked) and all(one in (level, "+") for one, level in zip(asked, levels, strict=True))
