"""A connection between its streams and the store: what is written when, and when it is over."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from fleetward_broker.embedded.caller import Caller
from fleetward_broker.embedded.config import Limits
from fleetward_broker.embedded.connection import Clocks, Connection, House
from fleetward_broker.embedded.pace import Pace
from fleetward_broker.embedded.router import Router
from fleetward_broker.embedded.store import Kept, StoreUnusable
from fleetward_broker.embedded.wire import Answer, connack
from tests.broker.sessions import DEVICE, NOW, SUFFIX, ListStore, principal, topic
from tests.live import rawmqtt

WELCOME = connack(Answer.WELCOME)
HELLO = rawmqtt.connect(f"{DEVICE}-{SUFFIX}", clean=False, keep_alive=10)
UNTIL = datetime.fromtimestamp(NOW + 1000, UTC)


class HeldStore(ListStore):
    """A disk that is done when the test says so, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.is_done = asyncio.Event()
        self.failure: StoreUnusable | None = None

    async def commit(self) -> None:
        await self.is_done.wait()
        if self.failure is not None:
            raise self.failure


@dataclass
class FakeWriter:
    """Takes bytes; ends the reader when closed, as a socket does."""

    reader: asyncio.StreamReader
    raw: bytes = b""
    closed: list[str] = field(default_factory=list)

    @property
    def transport(self) -> "FakeWriter":
        return self

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> object:
        return None

    def is_closing(self) -> bool:
        return bool(self.closed)

    def write(self, raw: bytes) -> None:
        self.raw += raw

    def close(self) -> None:
        self.closed.append("close")
        self.reader.feed_eof()

    def abort(self) -> None:
        self.closed.append("abort")


class Stage:
    """One connection with its surroundings; ``now`` is moved by the test."""

    def __init__(self) -> None:
        self.store, self.now = HeldStore(), 0.0
        self.reader = asyncio.StreamReader()
        self.writer = FakeWriter(self.reader)
        house = House(
            Router(self.store, Limits(), Kept()),
            self.store,
            Limits(),
            Clocks(lambda: self.now, lambda: NOW + self.now),
        )
        caller = Caller(principal(DEVICE), (b"", 1), UNTIL)
        streams: tuple = (self.reader, self.writer)
        self.connection = Connection(streams, caller, Pace(0, 1, 0.0), house)
        self.task = asyncio.create_task(self.connection.run())

    async def hear(self, raw: bytes) -> bytes:
        """Give bytes to the connection; return all that it wrote so far once nothing moves any more."""
        self.reader.feed_data(raw)
        for _ in range(10):
            await asyncio.sleep(0)
        return self.writer.raw

    def check(self, now: float) -> list[str]:
        self.now = now
        self.connection.check(now, NOW + now)
        return self.writer.closed


def staged(play: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage()
        await play(stage)
        stage.connection.cut("over")
        await asyncio.wait([stage.task])

    asyncio.run(run())


def test_nothing_is_acknowledged_before_the_commit():
    async def play(stage: Stage) -> None:
        assert await stage.hear(HELLO) == b""
        stage.store.is_done.set()
        assert await stage.hear(b"") == WELCOME
        stage.store.is_done.clear()
        wish, said = rawmqtt.subscribe(topic("command")), rawmqtt.publish(topic("status", way="up"))
        assert await stage.hear(wish + said) == WELCOME
        stage.store.is_done.set()
        assert await stage.hear(b"") == WELCOME + b"\x90\x03\x00\x01\x01" + rawmqtt.puback(1)

    staged(play)


def test_a_failed_commit_acknowledges_nothing_and_is_told():
    async def play(stage: Stage) -> None:
        stage.store.failure = StoreUnusable("the disk is full")
        stage.store.is_done.set()
        assert await stage.hear(HELLO) == b""
        assert stage.writer.closed == ["close"]
        with pytest.raises(StoreUnusable):
            await stage.task

    staged(play)


def test_silence_is_over_after_one_and_a_half_keep_alives():
    async def play(stage: Stage) -> None:
        stage.store.is_done.set()
        await stage.hear(HELLO)
        assert stage.check(15.0) == []
        assert stage.check(15.1) == ["close"]

    staged(play)


def test_a_line_without_connect_is_over_after_its_time():
    async def play(stage: Stage) -> None:
        assert stage.check(10.0) == []
        assert stage.check(10.1) == ["close"]

    staged(play)


def test_a_line_is_over_with_its_certificate():
    async def play(stage: Stage) -> None:
        stage.store.is_done.set()
        await stage.hear(HELLO)
        stage.now = 999.0
        await stage.hear(rawmqtt.PINGREQ)
        assert stage.check(999.0) == []
        assert stage.check(1000.0) == ["close"]

    staged(play)


def test_a_closing_that_does_not_end_is_cut_short():
    async def play(stage: Stage) -> None:
        stage.connection.cut("over")
        assert stage.check(2.0) == ["close"]
        assert stage.check(2.1) == ["close", "abort"]

    staged(play)
