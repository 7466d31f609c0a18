"""Both ends in memory: real agents and a real server worker with its store, a broker that keeps what nobody fetched.

Time stands still until it is moved, for both ends the same; everything said is counted in bytes.
"""

import itertools
import shutil
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from fleetward_agent.assembly import origin_of
from fleetward_agent.config import from_folder
from fleetward_agent.device import Device, Options, Parts
from fleetward_agent.origin import Credential
from fleetward_agent.outbox import Outbox
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateFile
from fleetward_agent.world import Roots
from fleetward_broker.line import Arrived, LineId, Token
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg
from fleetward_server.authority import Authority
from fleetward_server.bundle import BundleOperator
from fleetward_server.clock import sureness
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.init import Wish, make_provider
from fleetward_server.policy import policy_of
from fleetward_server.store import open_store
from fleetward_server.worker import Worker
from tests.world import FakeScanner, MemoryKeys
from tests.world_line import FakeClock, FakeLink, _matches

_LINE = LineId(0)


@cache
def _made() -> TemporaryDirectory[str]:
    """Make a provider with one device, once for all tests."""
    made = TemporaryDirectory()
    make_provider(Path(made.name) / "provider", Wish(port=1, telemetry_s=30), datetime.now(UTC))
    order = Order(1, Path(made.name) / "devices", Certification.L1, alg=Alg.EDDSA)
    provision(Path(made.name) / "provider", order)
    return made


class Joined:
    """One provider and one device of it."""

    def __init__(self, folder: Path, *, telemetry_s: int = 30, outbox: Outbox | None = None) -> None:
        self.clock = FakeClock(now=datetime.now(UTC))
        self.link = FakeLink(self.clock)
        self.bytes: Counter[str] = Counter()
        self.folder = folder / "provider"
        shutil.copytree(_made().name, folder, dirs_exist_ok=True)
        self.config = load(self.folder)
        self.store = open_store(self.config.store_path)
        policy = replace(policy_of(self.config, sureness(self.config.time)), telemetry_s=telemetry_s)
        authority = Authority(self.config)
        self.worker = Worker(self.store, self, authority, policy, own_anchors(self.config), self.clock.now)
        (papers,) = (folder / "devices").iterdir()
        self.origin = origin_of(from_folder(papers))
        scanner = FakeScanner(self.origin.digital_id)
        self.parts = Parts(MemoryKeys(), scanner, StateFile(None), outbox or Outbox(None))
        self.boot_id = "boot-1"
        self._seeds = itertools.count(1)
        self.start()

    def start(self, options: Options | None = None) -> None:
        """Start the agent (again)."""
        self.device = Device(self.origin, self.parts, options or Options(device_alg=Alg.EDDSA))
        self.host = Host(self.link, [self.device], self.world())

    def world(self) -> World:
        return World(lambda: self.clock.boot_us, self.boot_id, self._random, _context)

    def _random(self, size: int) -> bytes:
        """Return bytes that never repeat here and are the same in every run."""
        return next(self._seeds).to_bytes(size, "big")

    def operator(self) -> BundleOperator:
        return BundleOperator(self.folder, "eve", lambda: self.clock.now)

    def publish(self, _: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        """Bring what the server says to the device, or keep it for its session."""
        self.bytes["down"] += len(topic) + len(payload)
        here = any(_matches(f, topic) for held in self.link.lines.values() for f, _ in held.dial.subscriptions)
        if here:
            self.link.send(topic, payload, qos)
        elif qos:
            for client in {d.client_id for d in self.link.dials if not d.clean and _hears(d.subscriptions, topic)}:
                self.link.sessions.setdefault(client, []).append((topic, payload))
        return Token(1)

    def turn(self, timeout_s: float = 1.0) -> None:
        """One turn of each end."""
        self.host.turn(timeout_s)
        self.serve()

    def serve(self) -> None:
        """Let the server take what was said, and do its chores."""
        arrived = [Arrived(_LINE, topic, raw, 1, retained=False, mid=0) for topic, raw in self.link.published]
        self.bytes["up"] += sum(len(one.topic) + len(one.payload) for one in arrived)
        self.link.published.clear()
        now = self.clock.now
        self.worker.renew(now)
        if arrived:
            self.worker.send(self.worker.batch(arrived, now, self.clock.boot_us / 1e6), _LINE, now)
        self.worker.send(self.worker.chores(now), _LINE, now)

    def until(self, done: Callable[[], object], within_s: float = 600) -> None:
        end = self.clock.now + timedelta(seconds=within_s)
        while not done():
            assert self.clock.now < end, f"not within {within_s} s at {self.device.stage}"
            self.turn()

    def pass_s(self, seconds: float, step_s: float = 1.0) -> None:
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            self.turn(min(step_s, (end - self.clock.now).total_seconds()))


def _context(_: Roots, __: Credential, ___: bool) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _hears(subscriptions: tuple[tuple[str, int], ...], topic: str) -> bool:
    return any(_matches(wanted, topic) for wanted, _ in subscriptions)
