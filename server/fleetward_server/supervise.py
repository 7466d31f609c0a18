"""``fleetward up``: a broker, a server worker and what else is asked for on this host, watched and ended together.

SIGHUP: configuration, keys and certificates are taken up as they are now; nobody's connection to the broker ends by it.

``run.json`` in the provider's folder tells ports and process ids while they serve; a lock tells a live one from a
stale one, and a second ``up`` who holds the folder. Children end with their supervisor, however it ends.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from fleetward_broker.durable import write_durably
from fleetward_broker.halt import SignalEvent
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_server.brokers import RUNNERS, NotInstalled
from fleetward_server.clock_watch import ahead_us
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.generations import AuthorityProblem, roots
from fleetward_server.lines import finish_lines
from fleetward_server.locks import CHANGE_S
from fleetward_server.parts import Part, StartFailed, spawn
from fleetward_server.releases.places import serves_bytes
from fleetward_server.running import READY, RUN, childless, locked
from fleetward_server.upkeep import TROUBLES, publish_lists, renew_lines

log = logging.getLogger("fleetward.up")

WATCH_S = 0.2
RENEW_S = 24 * 3600.0
STEP_US = 30 * 1_000_000  # less than what lists and certificates are dated back by
AGAIN_S = 300.0


@dataclass(slots=True)
class Up:
    """The running whole of one folder. untold: run.json does not say yet what runs.

    hears: SIGHUP sets ``asked``. believed: the roots that the broker was started with. stopping: nothing shall run
    any more. keeps: open files that each part inherits.
    """

    config: Config
    broker: str = "embedded"
    log_level: str = "info"
    log_format: str = "text"
    port: int = 0
    artifacts_port: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    renew_at: float = field(default_factory=lambda: time.monotonic() + RENEW_S)
    ahead_us: int = field(default_factory=ahead_us)
    untold: bool = False
    hears: bool = False
    asked: SignalEvent = field(default_factory=SignalEvent)
    believed: tuple[x509.Certificate, ...] = ()
    stopping: threading.Event | SignalEvent = field(default_factory=SignalEvent)
    keeps: tuple[int, ...] = ()

    def start(self) -> None:
        """Start the broker, then the server; ``run.json`` is written once both serve."""
        self.port = self.config.broker.port
        renew_lines(self.config, datetime.now(UTC))
        publish_lists(self.config, datetime.now(UTC), CHANGE_S)
        self._start_broker()
        self._start_server()
        # At the first start; later the watch must stay free for the broker it may be waiting for.
        self.parts["server"].await_((self.config.folder / READY).exists)
        if self.config.mosip.on:
            self._start_mosip()
        if serves_bytes(self.config):
            self._start_artifacts()
        self._write_run()

    def watch(self) -> None:
        """Keep all of it running until told to stop."""
        while not self.stopping.wait(WATCH_S):
            for name, again in self._starters():
                if self.parts[name].may_follow(time.monotonic()):
                    self._restart(name, again)
            if "artifacts" not in self.parts and serves_bytes(self.config):
                self._begin_artifacts()
            if self.untold:
                self._tell()
            for part in self.parts.values():
                part.press(time.monotonic())
                part.trim(time.monotonic())
            if self.asked.is_set():
                self.asked.clear()
                self.reload()
            if time.monotonic() >= self.renew_at or self._stepped():
                self.renew_lists()

    def _stepped(self) -> bool:
        """Say whether the system clock was set since the lists were written: they may not have begun, or have ended."""
        return abs(ahead_us() - self.ahead_us) > STEP_US

    def _starters(self) -> list[tuple[str, Callable[[], None]]]:
        known = {"broker": self._start_broker, "server": self._start_server, "mosip": self._start_mosip}
        known["artifacts"] = self._start_artifacts
        return [(name, again) for name, again in known.items() if name in self.parts]

    def reload(self) -> None:
        """Take up configuration, keys and certificates: the broker reads them, then another server takes the line.

        A configuration that cannot be used leaves all as it is, and is told.
        """
        try:
            self.config = load(self.config.folder)
            for name in {"mosip", "artifacts"} & self.parts.keys():
                # Another follows when it has ended, which may take a while: the one asks MOSIP, the other sends bytes.
                self.parts[name].ask_to_end()
            # It ends first: it writes lists too, of the authorities that it knows.
            self.parts["server"].end()
            publish_lists(self.config, datetime.now(UTC), CHANGE_S)
            self._renew_broker()
            self._start_server()
        except (*TROUBLES, ConfigProblem, NotTold, StartFailed) as problem:
            log.error("not reloaded", extra={"detail": str(problem)})  # noqa: TRY400
            return
        log.info("reloaded")
        self.untold = True

    def _renew_broker(self) -> None:
        """Have the broker read its files; started anew, it judges every line again.

        That is when a root is believed no more, and for one that never reads roots again when there are others.
        """
        runner, now = RUNNERS[self.broker], roots(self.config)
        finish_lines(self.config)
        if set(self.believed) - set(now) or (not runner.rereads_roots and now != self.believed):
            self.parts["broker"].end()
            self._start_broker()
        elif self.parts["broker"].alive:
            runner.enforce(self.config, self.parts["broker"].process.pid, ())

    def renew_lists(self) -> None:
        """Write the CRLs anew and have the broker read them: a list that ends lets nobody in any more."""
        self.renew_at, self.ahead_us = time.monotonic() + RENEW_S, ahead_us()
        renew_lines(self.config, datetime.now(UTC))
        try:
            self.config = load(self.config.folder)
            publish_lists(self.config, datetime.now(UTC))
            broker = self.parts.get("broker")
            if broker is not None and broker.alive:
                RUNNERS[self.broker].enforce(self.config, broker.process.pid, ())
        except (*TROUBLES, ConfigProblem) as problem:
            self.renew_at = time.monotonic() + AGAIN_S
            log.error("revocation lists not renewed", extra={"detail": str(problem)})  # noqa: TRY400

    def stop(self) -> None:
        """End the server first, so that it leaves the line politely, then the broker."""
        found = [self.parts[name] for name in ("artifacts", "mosip", "server", "broker") if name in self.parts]
        for part in found[:-1]:
            part.ask_to_end()
        for part in found:
            part.end()
        (self.config.folder / RUN).unlink(missing_ok=True)

    def _restart(self, name: str, again: Any) -> None:
        failures = self.parts[name].failures
        if name == "server":
            # It may know authorities that came into office since the lists were written.
            self.renew_lists()
        try:
            again()
        except (StartFailed, NotInstalled, AuthorityProblem, OSError) as failed:
            # A full disk takes no file of a broker's either: that is a failure like any other, and tried again.
            log.error("part does not start", extra={"part": name, "detail": str(failed)})  # noqa: TRY400
            part = self.parts[name]
            part.started, part.again_at, part.asked_until = time.monotonic(), None, None
        self.parts[name].failures = failures
        self.untold = True

    def _tell(self) -> None:
        try:
            self._write_run()
        except OSError:
            return  # No room for it now; the next look tries again.
        self.untold = False

    def _start_broker(self) -> None:
        # The port that was free at the first start stays ours for restarts: devices have it written down.
        finish_lines(self.config)
        self.believed = roots(self.config)
        runner = RUNNERS[self.broker]
        self.port = runner.start(self.config, self.port, lambda command, folder: self._spawn("broker", command, folder))

    def _start_server(self) -> None:
        finish_lines(self.config)
        ready = self.config.folder / READY
        ready.unlink(missing_ok=True)
        folder = str(self.config.folder)
        command = [sys.executable, "-m", "fleetward_server.run", "--dir", folder, "--port", str(self.port)]
        command += ["--ready", str(ready), "--log-level", self.log_level, "--log-format", self.log_format]
        self._spawn("server", command)

    def _start_mosip(self) -> None:
        command = [sys.executable, "-m", "fleetward_server.mosip.run", "--dir", str(self.config.folder)]
        self._spawn("mosip", [*command, "--log-level", self.log_level, "--log-format", self.log_format])

    def _begin_artifacts(self) -> None:
        """A repository came to be while we serve: what cannot start is tried again like any part."""
        try:
            self._start_artifacts()
        except (StartFailed, OSError) as failed:
            log.error("part does not start", extra={"part": "artifacts", "detail": str(failed)})  # noqa: TRY400
        self.untold = True

    def _start_artifacts(self) -> None:
        # As with the broker's, devices have the port written down.
        command = [sys.executable, "-m", "fleetward_server.releases.serve", "--dir", str(self.config.folder)]
        command += ["--port", str(self.artifacts_port)]
        part = self._spawn("artifacts", [*command, "--log-level", self.log_level, "--log-format", self.log_format])
        self.artifacts_port = int(json.loads(part.first_line())["port"])

    def _spawn(self, name: str, command: list[str], folder: Path | None = None) -> Part:
        log_path = self.config.folder / f"{name}.log"
        self.parts[name] = spawn(name, command, log_path, folder, keeps=self.keeps, given_up=self.stopping.is_set)
        return self.parts[name]

    def _write_run(self) -> None:
        found = {
            "pid": os.getpid(),
            "host": self.config.broker.host,
            "port": self.port,
            "broker_kind": self.broker,
            "broker": self.parts["broker"].process.pid,
            "server": self.parts["server"].process.pid,
            "mosip": self.parts["mosip"].process.pid if "mosip" in self.parts else None,
            "artifacts": self.parts["artifacts"].process.pid if "artifacts" in self.parts else None,
            "artifacts_port": self.artifacts_port or None,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "time": self.config.time.source,
            "hears": self.hears,
        }
        write_durably(self.config.folder / RUN, json.dumps(found, indent=2).encode() + b"\n")


def up(
    folder: Path,
    *,
    broker: str = "embedded",
    log_level: str = "info",
    log_format: str = "text",
    stopping: threading.Event | SignalEvent | None = None,
) -> None:
    """Serve ``folder`` until SIGTERM, SIGINT, or ``stopping``. broker: one of ``brokers.RUNNERS``.

    Raises:
        ConfigProblem, Held, NotInstalled, StartFailed, KeyUnavailable, AuthorityProblem: nothing is left running.
    """
    config = load(folder)
    stop = stopping or SignalEvent()
    with locked(folder), childless(folder) as kin:
        if (folder / RUN).exists():
            log.warning("stale run.json", extra={"detail": "its process is gone; starting anew"})
            (folder / RUN).unlink()
        whole = Up(config, broker, log_level, log_format, stopping=stop, keeps=(kin,))
        restore = _on_signals(stop, whole) if stopping is None else {}
        try:
            whole.start()
            whole.watch()
        except StartFailed:
            if not stop.is_set():
                raise
        finally:
            whole.stop()
            for number, handler in restore.items():
                signal.signal(number, handler)


def _on_signals(stop: threading.Event | SignalEvent, whole: Up) -> dict[signal.Signals, Any]:
    whole.hears = True
    events = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: whole.asked}
    return {number: signal.signal(number, lambda *_, event=event: event.set()) for number, event in events.items()}
