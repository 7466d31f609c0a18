"""A register, its devices, a connector and a sandbox MOSIP over real TLS, all under one simulated clock."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetward_sandbox.mosip.app import SandboxMosip
from fleetward_sandbox.mosip.register import Register
from fleetward_sandbox.mosip.serve import CLIENT, Served, open_sandbox
from fleetward_schemas.commands import OPEN, Step
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification, Purpose
from fleetward_schemas.topics import DeviceId
from fleetward_server.changes import PutCommand, PutDevice
from fleetward_server.mosip.connector import Connector
from fleetward_server.mosip.fetching import Fetching
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.queue import Task, TaskState
from fleetward_server.mosip.settings import MosipTable, Profile
from fleetward_server.mosip.signing import ProviderSeal
from fleetward_server.mosip.tokens import Tokens
from fleetward_server.mosip.wire import Wire, place_of
from fleetward_server.store import Store, open_store
from tests.mosip import Scanner, authority, rsa

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
MOST_STEPS = 500
PATIENT_S = 60
HASTY_S = 2
"""For a MOSIP that never answers."""
L0, L1 = Scanner(1), Scanner(2, Certification.L1, Purpose.AUTH)


@dataclass
class Clock:
    """The time of everybody but TLS."""

    now: datetime = START

    def go(self, **delta: float) -> None:
        self.now += timedelta(**delta)


def serving(folder: Path, clock: Clock) -> Served:
    """Return a sandbox whose MOSIP lives by ``clock``; its TLS certificate by the host's."""
    mosip = open_sandbox(folder, START - timedelta(days=9), datetime.now(UTC) - timedelta(hours=1))
    mosip.now = lambda: clock.now
    return Served(mosip)


def fresh(mosip: SandboxMosip, clock: Clock) -> None:
    """Make a sandbox as new."""
    clock.now = START
    numbers = itertools.count(1)
    mosip.register = Register(new_code=lambda: f"code-{next(numbers)}")
    mosip.register.onboard(rsa("device").public_key())
    mosip.quirks.clear()
    mosip.asked.clear()
    mosip.done.clear()
    mosip.domains = None
    mosip.tokens.given = 0
    mosip.tokens.life_s = 300


@dataclass
class Office:
    """A provider's end. scanners: by device id; deaf: those that answer no command."""

    folder: Path
    served: Served
    clock: Clock
    table: MosipTable
    scanners: dict[str, Scanner] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    wires: list[Wire] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store: Store = open_store(self.folder / "server.db", create=True)
        self.connector = self.connected()

    @property
    def mosip(self) -> SandboxMosip:
        return self.served.mosip

    def voice(self) -> Voice:
        provider = authority("device", START)
        anchors = MosipAnchors.of_pem(self.mosip.pki.anchors)
        return Voice(self.table, ProviderSeal(provider.key, provider.certificate), anchors, "Developer")

    def tokens(self) -> Tokens:
        self.wires.append(Wire(place_of(self.table, self.folder)))
        return Tokens(self.table, self.folder, self.wires[-1])

    def hurry(self) -> None:
        """Wait no longer for an answer than a test may."""
        self.table = replace(self.table, timeout_s=HASTY_S)
        self.connector = self.connected()

    def connected(self) -> Connector:
        """Return a connector that knows nothing but the store, as after a crash."""
        return Connector(self.store, self.voice(), self.tokens(), lambda: 0.5)

    def fetching(self, anchors: MosipAnchors | None = None) -> Fetching:
        """Return what fetches encryption certificates."""
        return Fetching(self.store, self.voice(), self.tokens(), self.folder, anchors=anchors)

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        self.store.close()

    def add(self, *scanners: Scanner, **changes: object) -> None:
        """Have devices registered by us, and online."""
        with self.store.unit() as unit:
            for scanner in scanners:
                self.scanners[scanner.id] = scanner
                unit.apply([PutDevice(scanner.row(**changes))])

    def change(self, scanner: Scanner, **changes: object) -> None:
        with self.store.unit() as unit:
            device = unit.device(DeviceId(scanner.id))
            assert device is not None
            unit.apply([PutDevice(replace(device, **changes))])  # type: ignore[arg-type]

    def answer_commands(self) -> int:
        """Do what devices do: send fresh device info, then say that the command is done."""
        done = 0
        for command in self.store.commands(open_only=True):
            scanner = self.scanners[command.device_id]
            if command.step in OPEN and scanner.id not in self.deaf:
                self.change(scanner, device_info=scanner.info(self.clock.now))
                with self.store.unit() as unit:
                    unit.apply([PutCommand(replace(command, step=Step.SUCCEEDED))])
                done += 1
        return done

    def work(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let all that is due now happen."""
        for _ in range(MOST_STEPS):
            busy = bool(self.connector.plan(self.clock.now)) | self.connector.step(self.clock.now)
            if until() or not (busy | bool(self.answer_commands())):
                return
        raise AssertionError(f"it never ends: {self.store.mosip_tasks()}")

    def work_for(self, minutes: float, every_s: float = 5) -> None:
        """Let simulated time pass, and what is due in it happen."""
        end = self.clock.now + timedelta(minutes=minutes)
        while self.clock.now < end:
            self.work()
            self.clock.go(seconds=every_s)

    def tasks(self, scanner: Scanner) -> list[Task]:
        """Return all tasks of a device, oldest first."""
        return list(reversed(self.store.mosip_tasks(device_id=DeviceId(scanner.id))))

    def told(self, scanner: Scanner) -> list[tuple[str, str, str | None]]:
        return [(task.act, task.state, task.device_code) for task in self.tasks(scanner)]

    def code(self, scanner: Scanner) -> str | None:
        device = self.store.device(DeviceId(scanner.id))
        assert device is not None
        return device.device_code

    def retire(self, scanner: Scanner) -> None:
        self.change(scanner, state=State.RETIRED)

    def open_tasks(self) -> list[Task]:
        return [task for task in self.store.mosip_tasks() if task.state is not TaskState.DEAD]


@contextmanager
def office(folder: Path, served: Served, clock: Clock, profile: Profile, **changes: object) -> Iterator[Office]:
    """Open a provider's end in ``folder``."""
    pki = served.mosip.pki.folder
    table = MosipTable(
        profile=profile,
        url=served.url,
        client_id=CLIENT,
        secret_file=str(pki / "client-secret"),
        ca=str(pki / "tls.pem"),
        anchors=str(pki / "anchors.pem"),
        trust_provider_id="sandbox-ftm",
        timeout_s=PATIENT_S,
    )
    made = Office(folder, served, clock, replace(table, **changes))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
