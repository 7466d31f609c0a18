"""An in-memory world for devices: keys, a scanner, a network, a server, and the stage that brings them together."""

import itertools
import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property

from fleetward_agent.device import Device, Options, Parts
from fleetward_agent.origin import Credential
from fleetward_agent.outbox import Limits, Outbox
from fleetward_agent.pool import Ended, Job
from fleetward_agent.ports import Sighting
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateFile
from fleetward_agent.world import Roots
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import make_key
from fleetward_schemas.clock import Beacon
from fleetward_schemas.identity import (
    Certification,
    DigitalId,
)
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.topics import fleet
from tests.world_line import START, FakeClock, FakeLink
from tests.world_server import FakeServer, Heard, Provider

__all__ = ["START", "FakeClock", "FakeLink", "FakeScanner", "FakeServer", "Heard", "MemoryKeys", "Provider", "Stage"]


NOT_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
"""What the log of a real agent has names of its own for, and refuses as a field."""


class MemoryKeys:
    """A key store in memory; Ed25519 whatever is asked, for speed."""

    def __init__(self) -> None:
        self.kept: dict[str, PrivateKey] = {}
        self.broken = False

    def make(self, name: str, alg: Alg) -> PrivateKey:
        return self.kept.setdefault(name, make_key(Alg.EDDSA))

    def open(self, name: str) -> PrivateKey:
        if self.broken or name not in self.kept:
            raise KeyUnavailable(f"{name}: not there")
        return self.kept[name]

    def destroy(self, name: str) -> None:
        self.kept.pop(name, None)

    def names(self) -> frozenset[str]:
        if self.broken:
            raise KeyUnavailable("not there")
        return frozenset(self.kept)


class FakeScanner:
    """A scanner that is as it is told to be."""

    def __init__(self, identity: DigitalId) -> None:
        self.identity = identity
        self.sighting = Sighting(DeviceStatus.READY, {"temperatureC": 31.5}, "2.4.1", "1.0.0")

    def present(self) -> tuple[DigitalId, ...]:
        return (self.identity,)

    def read(self) -> Sighting:
        return self.sighting


class Inline:
    """A pool that does each job when it is asked; time stands still meanwhile."""

    def __init__(self) -> None:
        self.waiting: list[Ended] = []

    def ask(self, owner: int, job: Job, now_us: int) -> None:
        self.waiting.append(Ended(owner, job.act()))

    def ended(self, now_us: int) -> list[Ended]:
        done, self.waiting = self.waiting, []
        return done

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.waiting.clear()


class Stage:
    """A device on a stage: everything around it, and the hand that moves time."""

    def __init__(
        self,
        provider: Provider,
        level: Certification = Certification.L1,
        *,
        serial: str = "SN-1",
        parts: Parts | None = None,
        limits: Limits | None = None,
        bytes_per_day: int = 0,
    ) -> None:
        self.provider = provider
        self.clock = FakeClock()
        self.link = FakeLink(self.clock)
        self.server = FakeServer(provider, self.link, self.clock)
        self.origin = provider.origin(serial, level)
        self.keys = MemoryKeys()
        self.scanner = FakeScanner(self.origin.digital_id)
        self.parts = parts or Parts(self.keys, self.scanner, StateFile(None), Outbox(None, limits))
        self.log: list[tuple[str, Mapping[str, str | int]]] = []
        self.shown: list[bytes] = []
        self.boot_id = "boot-1"
        self._seeds = itertools.count(int.from_bytes(serial.encode()) << 64)
        self.options = Options(device_alg=Alg.EDDSA, bytes_per_day=bytes_per_day)
        self.start()

    def start(self) -> None:
        """Start the agent (again): what it holds in memory is gone."""
        self.device = Device(self.origin, self.parts, self.options)
        self.host = Host(self.link, [self.device], self.world())

    def world(self) -> World:
        return World(
            boot_us=lambda: self.clock.boot_us,
            boot_id=self.boot_id,
            random=self._random,
            context=self._context,
            log=self._logged,
            slept_us=lambda: self.clock.slept_us,
            pool=Inline,
        )

    def _random(self, size: int) -> bytes:
        """Return bytes that never repeat on this stage and are the same in every run."""
        return next(self._seeds).to_bytes(size, "big")

    def _logged(self, event: str, fields: Mapping[str, str | int]) -> None:
        assert not NOT_FIELDS & fields.keys(), f"{event}: the log cannot tell {sorted(fields)}"
        self.log.append((event, fields))

    def _context(self, _: Roots, shown: Credential, __: bool) -> ssl.SSLContext:
        self.shown.append(shown.chain[0])
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def turn(self, timeout_s: float = 0.05) -> None:
        self.host.turn(timeout_s)
        self.server.serve()

    def until(self, done: Callable[[], object], within_s: float = 600) -> None:
        """Turn until ``done``; the clock moves as the agent waits."""
        end = self.clock.now + timedelta(seconds=within_s)
        while not done():
            if self.clock.now > end:
                raise AssertionError(f"not within {within_s} s at {self.device.stage}; log: {self.log[-12:]}")
            self.turn(1.0)

    def pass_s(self, seconds: float) -> None:
        """Let time go by, the agent turning."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            self.turn(min(1.0, (end - self.clock.now).total_seconds()))

    def events(self, name: str) -> list[Mapping[str, str | int]]:
        return [fields for event, fields in self.log if event == name]

    @cached_property
    def id(self) -> str:
        return self.origin.device_id

    def beacon(self, **changes: object) -> bytes:
        """Deliver a beacon to the fleet; ``at`` and ``signer`` as in ``deliver``."""
        at, signer = changes.pop("at", None), changes.pop("signer", None)
        spoken = {"topic": fleet("beacon"), "digital_id": self.server.server_identity(signer)} | changes  # type: ignore[arg-type]
        made = self.server.draft(self.id, "beacon", Beacon(), **spoken)
        return self.server.deliver(made, at, signer)  # type: ignore[arg-type]
