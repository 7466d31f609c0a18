"""Both ends as processes that can be killed: each forked from a parent that plays the broker and holds the clock."""

import itertools
import multiprocessing
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fleetward_agent.assembly import assemble
from fleetward_agent.config import from_folder
from fleetward_agent.device import Device
from fleetward_agent.run import Host, World
from fleetward_broker.line import Arrived, Dial, DialMaker, Event, LineId, Token
from fleetward_schemas.jws import Alg
from fleetward_server.authority import Authority
from fleetward_server.clock import sureness
from fleetward_server.config import load
from fleetward_server.cutting import enforce
from fleetward_server.generations import own_anchors
from fleetward_server.policy import policy_of
from fleetward_server.store import open_store
from fleetward_server.worker import Worker
from tests.kills.points import Points, install
from tests.world import Inline

FORK = multiprocessing.get_context("fork")
SERVER_LINE = LineId(1)
TURN_S = 20.0
Body = Callable[[Connection, Points, Path], None]


@dataclass
class Side:
    """One end's process, and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    @classmethod
    def start(cls, body: Body, home: Path, kill: tuple[int, str] | None) -> "Side":
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_child, args=(body, theirs, home, kill), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def end(self) -> None:
        """End it without ceremony."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _child(body: Body, pipe: Connection, home: Path, kill: Any) -> None:
    points = Points(kill, lambda label: pipe.send(("killed", label)))
    install(points)
    try:
        body(pipe, points, home)
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except BaseException as error:
        pipe.send(("failed", repr(error)))
        raise


class PipeLink:
    """The agent's link: the parent is the broker, and every word to it is answered."""

    def __init__(self, pipe: Connection, points: Points) -> None:
        self._pipe = pipe
        self._points = points
        self.boot_us = 0
        self.tell: Callable[[], Any] = lambda: None

    def _ask(self, *words: Any) -> Any:
        self._points.said()
        return self._exchange(*words)

    def _exchange(self, *words: Any) -> Any:
        self._pipe.send(words)
        return self._pipe.recv()

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        made: Dial = dial()
        return LineId(self._ask("open", replace(made, context=None)))  # type: ignore[arg-type]

    def poll(self, timeout_s: float, most: int = 1000) -> list[Event]:
        self.boot_us, events = self._ask("poll", min(timeout_s, TURN_S), self.tell(), self._points.moments)
        return list(events)

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        return self._points.at("publish", lambda: self._exchange("publish", line, topic, payload))  # type: ignore[no-any-return]

    def ack(self, arrived: Arrived) -> None:
        self._ask("ack", arrived)

    def watch(self, fileobj: object, tag: str) -> None:
        """What is slow elsewhere is done at once here."""

    def subscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        self._ask("subscribe", line, topics)

    def unsubscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        self._ask("unsubscribe", line, topics)

    def close(self, line: LineId) -> None:
        self._ask("close", line)


def agent(pipe: Connection, points: Points, home: Path) -> None:
    """Run the agent of the one device in ``home``."""
    link = PipeLink(pipe, points)
    link.boot_us = pipe.recv()
    config = from_folder(home / "device")
    made = assemble(config)
    device = Device(made.origin, made.parts, replace(made.options, device_alg=Alg.EDDSA))
    counted = itertools.count(link.boot_us)
    world = World(
        boot_us=lambda: link.boot_us,
        boot_id="boot-1",
        random=lambda size: next(counted).to_bytes(size, "big"),
        context=lambda roots, shown, check_time: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        pool=Inline,
    )
    host = Host(link, [device], world)  # type: ignore[arg-type]
    link.tell = lambda: (device.stage, device.session.kept, device.parts.outbox.depth)
    host.run(lambda: False, TURN_S)


class ServerLink:
    """The server's link: what is published goes to the parent at once."""

    def __init__(self, pipe: Connection, points: Points) -> None:
        self._pipe = pipe
        self._points = points

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        self._points.at("publish", lambda: self._pipe.send(("publish", topic, payload)))
        return Token(1)


def server(pipe: Connection, points: Points, home: Path) -> None:
    """Run one worker on the provider's folder in ``home``."""
    now: datetime = pipe.recv()
    config = load(home / "provider")
    store = open_store(config.store_path)
    policy = policy_of(config, sureness(config.time))
    link = ServerLink(pipe, points)
    worker = Worker(store, link, Authority(config), policy, own_anchors(config), now)  # type: ignore[arg-type]
    while True:
        arrived, now, monotonic = pipe.recv()
        points.said()
        if arrived:
            out = worker.batch(arrived, now, monotonic)
            points.said()
            pipe.send(("committed",))
            worker.send(out, SERVER_LINE, now)
        worker.send(worker.chores(now), SERVER_LINE, now)
        cuts = store.cuts()
        if cuts:
            enforce(config, store, cuts, now)
            store.forget_cuts(cuts)
        points.said()
        pipe.send(("done", [cut.device_id for cut in cuts if cut.kick], points.moments))
