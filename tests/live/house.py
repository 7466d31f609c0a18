"""The real thing for tests: a provider's folder, broker and server as processes, agents as processes, on loopback.

Nothing is in memory here and nothing is faked: a test sees what an operator sees. All texts that were written, logs
and states, are searched for marks of biometric data at the end (C10).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from fleetward_sandbox.provision import Made, Order, provision
from fleetward_schemas.identity import Certification
from fleetward_schemas.topics import DeviceId
from fleetward_server.compliance_scan import marks
from fleetward_server.config import FILE
from fleetward_server.init import Wish
from fleetward_server.operator import LocalOperator
from fleetward_server.running import RUN
from fleetward_server.state import Device, Report
from fleetward_server.store import ReportFilter, Store, open_store
from tests.ready import ready_provider

BROKERS = ("embedded", pytest.param("mosquitto", marks=pytest.mark.part))
WAIT_S = 180.0
"""Generous: a device that found nobody for T seconds may draw a wait of up to 2 T before it looks again."""
END_S = 60.0
LOOK_S = 0.1
TEXTS = ("*.log", "state.json*", "health.json", "mosip*.json")


def alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process's end, and return its exit code; one that does not end is killed, and that is a failure."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def started(log: Path, module: str, *words: str) -> subprocess.Popen[bytes]:
    """Start one of our programs, its words going to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", module, *words], stdout=output, stderr=output)


def name_keys(folder: Path, **keys: str) -> None:
    """Write an ``agent.toml`` into a provisioned folder that names keys by URI."""
    found = json.loads((folder / "connection.json").read_bytes())
    server = {"host": found["host"], "port": found["port"], "name": found["serverName"], "env": found["env"]}
    lines = ["[server]", *(f"{name} = {json.dumps(value)}" for name, value in server.items())]
    lines += ["[keys]", *(f"{name} = {json.dumps(value)}" for name, value in keys.items())]
    (folder / "agent.toml").write_text("\n".join(lines) + "\n")


class House:
    """A provider that serves, and the agents started against it. Everything ends with it."""

    def __init__(
        self,
        folder: Path,
        *,
        policy: str = "listed",
        telemetry_s: int = 1,
        serve: bool = True,
        broker: str = "embedded",
        hsm: str = "",
        connects_per_s: int = 1000,
    ) -> None:
        """Make a provider in ``folder``, its keys in this token if any, and start it with this kind of broker."""
        self.broker = broker
        self.home = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder / "provider"
        self.devices = folder / "devices"
        wish = Wish("Live Devices Ltd", "live", port=0, policy=policy, telemetry_s=telemetry_s, hsm=hsm)
        path = ready_provider(self.folder, wish)
        path.write_text(path.read_text().replace("# connects_per_s = 1000", f"connects_per_s = {connects_per_s}"))
        self.up: subprocess.Popen[bytes] | None = None
        self.agents: list[subprocess.Popen[bytes]] = []
        self.store: Store = open_store(self.folder / "server.db")
        self.made = 0
        self._operator: LocalOperator | None = None
        self._known: tuple[Path, int] | None = None
        if serve:
            self.serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        processes = (*self.agents, *([self.up] if self.up else []))
        for process in processes:
            if process.poll() is None:
                process.terminate()
                # A test that failed may have left it held still.
                process.send_signal(signal.SIGCONT)
        with ExitStack() as late:
            for process in processes:
                late.callback(end_of, process)
        self.store.close()
        if kind is not None:
            # Of whatever failed, this is what is looked for first.
            sys.stderr.write(f"{self.last_words()}\n")
        else:
            texts = (path for name in TEXTS for path in self.home.rglob(name) if path.is_file())
            assert [mark for path in texts for mark in marks(path)] == []

    def serve(self) -> None:
        """Start broker and server; return when they serve."""
        choice = ("--broker", self.broker)
        self.up = started(self.home / "up.log", "fleetward_server", "up", "--dir", str(self.folder), *choice)
        self.wait(lambda: (self.folder / RUN).exists() and "server" in self.found(), "broker and server serve")

    def move(self, folder: Path, port: int) -> None:
        """Serve another folder from now on, on a port that devices have written down."""
        self.folder = folder
        path = folder / "fleetward.toml"
        path.write_text(path.read_text().replace("port = 0", f"port = {port}"))
        self.store = open_store(folder / "server.db")
        self.serve()

    def stop(self) -> int:
        """End broker and server politely; return the exit code."""
        assert self.up is not None
        self.up.terminate()
        return end_of(self.up)

    def found(self) -> dict[str, Any]:
        """Return what run.json says."""
        try:
            return dict(json.loads((self.folder / RUN).read_bytes()))
        except (OSError, ValueError):
            return {}

    @property
    def port(self) -> int:
        """Where the broker listens."""
        return int(self.found()["port"])

    @property
    def operator(self) -> LocalOperator:
        """Somebody who may act, and knows the configuration as it is now."""
        path = self.folder / FILE
        now = (path, path.stat().st_mtime_ns)
        if self._operator is None or self._known != now:
            self._operator, self._known = LocalOperator(self.folder, "test"), now
        return self._operator

    def provision(self, count: int, level: Certification | None = Certification.L1, **order: Any) -> list[Made]:
        """Make devices as the factory does."""
        wanted = Order(count, self.devices, level, first=self.made + 1, **order)
        self.made += count
        return provision(self.folder, wanted, port=self.port)

    def start_agent(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the real agent program on a provisioned folder."""
        self.agents.append(started(folder / "agent.log", "fleetward_agent", "run", "--device", str(folder)))
        return self.agents[-1]

    def kill(self, part: str) -> int:
        """kill -9 the broker or the server, and return its id; the supervisor starts it again.

        One that fell by itself just now is waited for: run.json still names it.
        """
        killed: list[int] = []

        def try_it() -> bool:
            pid = int(self.found().get(part) or 0)
            with suppress(ProcessLookupError):
                if pid and alive(pid):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            return bool(killed)

        self.wait(try_it, f"a {part} to kill")
        self.wait(lambda: not alive(killed[0]), f"the {part} is dead")
        return killed[0]

    def device(self, device_id: str) -> Device | None:
        """Return a device's row."""
        return self.store.device(DeviceId(device_id))

    def all_devices(self) -> list[Device]:
        """Return every row."""
        return list(self.store.devices(limit=10_000))

    def reports(self, device_id: str, kind: str | None = "telemetry") -> list[Report]:
        """Return a device's reports in its own outbox order."""
        return list(self.store.reports(ReportFilter(DeviceId(device_id), kind), limit=100_000))

    def refusals(self, principal: str) -> dict[str, int]:
        """Return what was refused of a principal."""
        return {str(row.code): row.count for row in self.store.refusals(principal)}

    def wait(self, until: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
        """Look again and again until it is so."""
        deadline = time.monotonic() + within_s
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s:.0f} s: {what}\n{self.last_words()}")
            time.sleep(LOOK_S)

    def last_words(self) -> str:
        """Return the ends of the logs, for a test that failed."""
        logs = [self.home / "up.log", self.folder / "server.log", self.folder / "broker.log"]
        logs += sorted(self.devices.glob("*/agent.log"))[:3]
        return "\n".join(f"-- {path.name}\n{path.read_text()[-1500:]}" for path in logs if path.exists())
