"""``fleetward up`` and ``down``: one broker and one server worker on this host, watched, restarted, ended together.

``run.json`` in the provider's folder tells ports and process ids while they serve; a lock tells a live one from a
stale one, and a second ``up`` who holds the folder. Children end with their supervisor, however it ends.
"""

import ctypes
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fleetward_broker.signers import write_durably
from fleetward_server.authority import AUTHORITIES, publish_revocations
from fleetward_server.config import Config, load

log = logging.getLogger("fleetward.up")

RUN = "run.json"
LOCK = ".lock"
READY = ".server-ready"
PR_SET_PDEATHSIG = 1
START_S = 30.0
STOP_S = 15.0
WATCH_S = 0.2
STEADY_S = 2.0
MOST_WAIT_S = 10.0


class Held(Exception):  # noqa: N818 - says what is so
    """Another ``up`` holds the folder; the message says which process."""


class NotRunning(Exception):  # noqa: N818
    """Nothing serves this folder."""


class StartFailed(Exception):  # noqa: N818
    """A part did not come up; the message carries its own last words."""


@dataclass(slots=True)
class Part:
    """One child process. failures: how often it ended by itself since it last ran for a while."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    started: float
    failures: int = 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None


@dataclass(slots=True)
class Up:
    """The running whole of one folder."""

    config: Config
    log_level: str = "info"
    log_format: str = "text"
    port: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    wait_until: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start the broker, then the server; ``run.json`` is written once both serve."""
        self.port = self.config.broker.port
        publish_revocations(self.config, self._revoked(), datetime.now(UTC))
        self._write_broker_config()
        self._start_broker()
        self._start_server()
        self._await_server()
        self._write_run()

    def watch(self, stopping: threading.Event) -> None:
        """Keep both running until told to stop."""
        while not stopping.wait(WATCH_S):
            for name, again in (("broker", self._start_broker), ("server", self._start_server)):
                if not self.parts[name].alive and time.monotonic() >= self._wait_for(name):
                    self._restart(name, again)

    def stop(self) -> None:
        """End the server first, so that it leaves the line politely, then the broker."""
        for name in ("server", "broker"):
            if name in self.parts:
                _end(self.parts[name])
        (self.config.folder / RUN).unlink(missing_ok=True)

    def _wait_for(self, name: str) -> float:
        part = self.parts[name]
        if name not in self.wait_until:
            part.failures = 1 if time.monotonic() - part.started > STEADY_S else part.failures + 1
            wait = 0.0 if part.failures == 1 else min(MOST_WAIT_S, 0.5 * 2**part.failures)
            log.error("part ended", extra={"part": name, "exit": part.process.returncode, "again_in_s": wait})
            self.wait_until[name] = time.monotonic() + wait
        return self.wait_until[name]

    def _restart(self, name: str, again: Any) -> None:
        failures = self.parts[name].failures
        self.wait_until.pop(name, None)
        try:
            again()
        except StartFailed as failed:
            log.error("part does not start", extra={"part": name, "detail": str(failed)})  # noqa: TRY400
        self.parts[name].failures = failures
        self._write_run()

    def _start_broker(self) -> None:
        path = self.config.folder / "broker" / "broker.toml"
        part = self._spawn("broker", [sys.executable, "-m", "fleetward_broker.embedded", "--config", str(path)])
        line = _first_line(part)
        self.port = int(json.loads(line)["port"])
        if self.config.broker.port == 0:
            # The port that was free at the first start stays ours for restarts: devices have it written down.
            self._write_broker_config()

    def _start_server(self) -> None:
        ready = self.config.folder / READY
        ready.unlink(missing_ok=True)
        folder = str(self.config.folder)
        command = [sys.executable, "-m", "fleetward_server.run", "--dir", folder, "--port", str(self.port)]
        command += ["--ready", str(ready), "--log-level", self.log_level, "--log-format", self.log_format]
        self._spawn("server", command)

    def _await_server(self) -> None:
        """Wait for its line at the first start; later the watch must stay free for the broker it may be waiting for."""
        part, ready = self.parts["server"], self.config.folder / READY
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if not part.alive or time.monotonic() > deadline:
                raise StartFailed(f"server: {_last_words(part.log)}")
            time.sleep(0.02)

    def _spawn(self, name: str, command: list[str]) -> Part:
        path = self.config.folder / f"{name}.log"
        with path.open("a") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.parts[name] = Part(name, process, path, time.monotonic())
        return self.parts[name]

    def _write_broker_config(self) -> None:
        folder = self.config.folder / "broker"
        folder.mkdir(exist_ok=True)
        crls = ", ".join(f'"../pki/crl/{name}.pem"' for name in AUTHORITIES)
        text = (
            f'[listen]\nhost = "{self.config.broker.bind}"\nport = {self.port}\n\n'
            '[tls]\ncertificate = "../pki/broker.pem"\nkey = "../pki/broker.key.pem"\n'
            f'roots = "../pki/root.pem"\ncrls = [{crls}]\n\n'
            '[store]\npath = "broker.db"\n'
        )
        write_durably(folder / "broker.toml", text.encode())

    def _write_run(self) -> None:
        found = {
            "pid": os.getpid(),
            "host": self.config.broker.host,
            "port": self.port,
            "broker": self.parts["broker"].process.pid,
            "server": self.parts["server"].process.pid,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "time": self.config.time.source,
        }
        write_durably(self.config.folder / RUN, json.dumps(found, indent=2).encode() + b"\n")

    def _revoked(self) -> dict[str, dict[int, datetime]]:
        return {}


def up(
    folder: Path, *, log_level: str = "info", log_format: str = "text", stopping: threading.Event | None = None
) -> None:
    """Serve ``folder`` until SIGTERM, SIGINT, or ``stopping``.

    Raises:
        ConfigProblem, Held, StartFailed, KeyUnavailable, AuthorityProblem: nothing is left running.
    """
    config = load(folder)
    stop = stopping or threading.Event()
    with locked(folder):
        if (folder / RUN).exists():
            log.warning("stale run.json", extra={"detail": "its process is gone; starting anew"})
        whole = Up(config, log_level, log_format)
        restore = _on_signals(stop) if stopping is None else {}
        try:
            whole.start()
            whole.watch(stop)
        finally:
            whole.stop()
            for number, handler in restore.items():
                signal.signal(number, handler)


def down(folder: Path) -> int:
    """Stop the ``up`` of this folder and wait for its end; return its process id.

    Raises:
        NotRunning: nothing serves the folder. Held: it does not end.
    """
    found = running(folder)
    if found is None:
        stale = " (its run.json is stale)" if (folder / RUN).exists() else ""
        raise NotRunning(f"{folder}: nothing is running{stale}")
    pid = int(found["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * STOP_S
    while running(folder) is not None:
        if time.monotonic() > deadline:
            raise Held(f"process {pid} does not end; see {folder}/server.log and broker.log")
        time.sleep(0.05)
    return pid


def running(folder: Path) -> dict[str, Any] | None:
    """Return what ``run.json`` says while its process holds the lock, else None."""
    if not (folder / LOCK).exists():
        return None
    with (folder / LOCK).open("r+") as file:
        if _try_lock(file):
            return None
    try:
        found = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        return {"pid": int((folder / LOCK).read_text().strip() or 0)}
    return found if isinstance(found, dict) else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder; a lock ends with its process, so it is never stale.

    Raises:
        Held: another process holds it.
    """
    with (folder / LOCK).open("a+") as file:
        if not _try_lock(file):
            file.seek(0)
            raise Held(
                f"{folder}: process {file.read().strip()} is serving it; stop it with: fleetward down --dir {folder}"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _on_signals(stop: threading.Event) -> dict[signal.Signals, Any]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    return {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}


def _die_with_parent() -> None:
    """In the child: be ended when the supervisor is, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _first_line(part: Part) -> str:
    stream = part.process.stdout
    line = "" if stream is None else stream.readline()
    if not line:
        part.process.wait(STOP_S)
        raise StartFailed(f"{part.name}: {_last_words(part.log)}")
    return line


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end(part: Part) -> None:
    if part.alive:
        part.process.terminate()
    try:
        part.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        part.process.kill()
        part.process.wait()
