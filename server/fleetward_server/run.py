"""The server's loop: the one place here that waits, reads the clock, and touches the world.

One thread around one selector. A store that fails costs the line, not the data: nothing is acknowledged, the broker
gives it all again, once there is room and the store takes a write. Source: architecture "One concurrency style".
"""

import argparse
import gc
import logging
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleetward_broker.halt import SignalEvent
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Arrived, Connected, Delivered, Dial, Event, LineId, Lost, backoff_s
from fleetward_broker.link import SelectorLink
from fleetward_broker.logs import FORMATS, LEVELS, start_logging
from fleetward_broker.tls import client_context
from fleetward_schemas.topics import ROOT
from fleetward_server import encryption
from fleetward_server.authority import Authority
from fleetward_server.client_id import client_id_of
from fleetward_server.clock import Sureness, sureness, tellable
from fleetward_server.clock_watch import Timekeeper
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.cutting import Cutter
from fleetward_server.disk import Room
from fleetward_server.ending import EndWatch
from fleetward_server.generations import AuthorityProblem, own_anchors
from fleetward_server.health import forget_health, write_health
from fleetward_server.key_watch import KeyWatch, opened
from fleetward_server.outgoing import Outgoing
from fleetward_server.pulse import Pulse, write_pulse
from fleetward_server.releases.duty import ReleaseDuty
from fleetward_server.retention import Retention
from fleetward_server.store import Store, StoreProblem, open_store
from fleetward_server.turn import Policy
from fleetward_server.worker import Worker

log = logging.getLogger("fleetward.server")

TURN_S = 0.2
CHORE_S = 0.25
CLEAN_S = 60.0
ENCRYPTION_S = 5.0
BREATH_S = 0.25
ROOM_S = 1.0
KEYS_S = 2.0
SILENCE_S = 10.0
CUTS_S = 1.0
PLAN_S = 60.0
TIMERS = ("beacon", "chores", "clean", "silence", "room", "keys", "cuts", "plan", "ends", "encryption")
ENDS_S = 3600.0
BATCH_MOST = 2000
GATHER_S = 0.06
KEEP_ALIVE_S = 20
RETRY_MOST_S = 3.0
EXIT_CONFIG = 2


def policy_of(config: Config, sure: Sureness) -> Policy:
    """Return what the handlers need of the configuration; radius 0 means: do not answer time."""
    return Policy(
        listing=config.enrol.policy,
        environment=config.provider.environment,
        provider=config.provider.name,
        provider_id=config.provider.id,
        telemetry_s=config.devices.telemetry_s,
        time_s=config.devices.time_s,
        radius_ms=sure.radius_ms or 0,
        limits=config.limits,
        retry_after_s=config.enrol.retry_after_s,
    )


class Server:
    """A worker on its line, with its timers."""

    def __init__(self, config: Config, store: Store, port: int, authority: Authority | None = None) -> None:
        """Make the signing key of this start. port: where the broker listens now. authority: opened if left out."""
        self._config = config
        self._port = port
        self._store = store
        self._link = SelectorLink(time.monotonic, gather_s=GATHER_S)
        self._time = Timekeeper(lambda: sureness(config.time))
        authority = authority or Authority(config)
        self._keys, self._ends = KeyWatch(authority), EndWatch()
        self._worker = Worker(
            store, self._link, authority, policy_of(config, self._time.sure), own_anchors(config), _now()
        )
        self._client_id = client_id_of(config.folder)
        self._line: LineId | None = None
        self._connected = False
        self._attempts = 0
        self._early: list[Arrived] = []
        self._due = dict.fromkeys(TIMERS, 0.0)
        self._retention = Retention(config.retention)
        self._cutter = Cutter(config, store)
        self._releases = ReleaseDuty(config)
        self._room = Room(config.folder, config.storage.min_free_mb)
        self._paused = ""
        self._told: tuple[str, tuple[str, ...]] | None = None
        self.on_ready: Callable[[], None] = lambda: None

    def run(self, stopped: Callable[[], bool]) -> None:
        """Serve until ``stopped()``, then leave the line politely."""
        self._look()
        if not self._paused:
            self._open(0.0)
        while not stopped():
            self.turn(TURN_S)
        self.close()

    def turn(self, timeout_s: float) -> None:
        """Wait for the line at most ``timeout_s`` and do what is due."""
        events = self._link.poll(timeout_s, BATCH_MOST)
        self._mind_clock()
        now, monotonic = _now(), time.monotonic()
        arrived = [event for event in events if isinstance(event, Arrived)]
        for event in events:
            if not isinstance(event, Arrived):
                self._line_event(event)
        arrived = self._held_back(arrived)
        try:
            self._take(arrived, now, monotonic)
            self._timers(now, monotonic)
        except StoreProblem as problem:
            self._pause(str(problem))
        if self._is_due("room", monotonic, ROOM_S):
            self._look()
        if self._is_due("keys", monotonic, KEYS_S) and self._keys.look():
            self._tell_health()

    def _held_back(self, arrived: list[Arrived]) -> list[Arrived]:
        """Return what can be answered: what a kept session delivers before the line is whole waits until it is.

        Where the line is lost meanwhile, it comes again: it was not acknowledged.
        """
        if self._connected and not self._early:
            return arrived
        self._early = [one for one in (*self._early, *arrived) if one.line == self._line]
        if not self._connected:
            return []
        found, self._early = self._early, []
        return found

    def close(self) -> None:
        """Disconnect and release what was opened."""
        if self._line is not None:
            self._link.close(self._line)
        for _ in range(10):
            if any(isinstance(event, Lost) for event in self._link.poll(0.1)):
                break
        self._link.shutdown()
        self._time.close()
        self._cutter.close()
        forget_health(self._config.folder)

    def _take(self, arrived: list[Arrived], now: datetime, monotonic: float) -> None:
        if not arrived or self._paused:
            return
        batches = self._batches(arrived, now, monotonic)
        for one in arrived:
            self._link.ack(one)
        for out in batches:
            self._send(out)

    def _batches(self, arrived: list[Arrived], now: datetime, monotonic: float) -> list[Outgoing]:
        """Commit all at once; should our own code stumble over one message, one by one, and that one is dropped.

        Otherwise one message nobody foresaw would come again for ever, and everything behind it would wait.
        """
        try:
            return [self._worker.batch(arrived, now, monotonic)]
        except StoreProblem:
            raise
        except Exception:
            log.exception("a batch failed and is taken one by one", extra={"messages": len(arrived)})
        return [out for one in arrived if (out := self._alone(one, now, monotonic)) is not None]

    def _alone(self, one: Arrived, now: datetime, monotonic: float) -> Outgoing | None:
        try:
            return self._worker.batch([one], now, monotonic)
        except StoreProblem:
            raise
        except Exception:
            log.exception("a message was dropped: a mistake of ours", extra={"topic": one.topic})
            return None

    def _send(self, out: Outgoing) -> None:
        if self._line is not None and (out.replies or out.receipts):
            # A time answer says when it left, so this is a reading of its own; the clock may have stepped meanwhile.
            self._mind_clock()
            out.replies = tellable(out.replies, self._worker.policy.radius_ms)
            self._worker.send(out, self._line, _now())

    def _timers(self, now: datetime, monotonic: float) -> None:
        self._worker.renew(now)
        if self._paused:
            return
        self._mind_releases(now, monotonic)
        if self._connected and self._line is not None:
            # A server that does not know its own error tells no time, beacons included.
            if self._is_due("beacon", monotonic, self._config.time.beacon_s) and self._worker.policy.radius_ms:
                self._worker.beacon(self._line, now)
                own = self._worker.seal
                write_pulse(self._config.folder, Pulse(now, own.thumbprint, own.not_after))
            if self._is_due("chores", monotonic, CHORE_S):
                self._send(self._worker.chores(now, assigns=self._releases.readable))
        if self._is_due("silence", monotonic, SILENCE_S):
            self._worker.miss(now)
        if self._is_due("cuts", monotonic, CUTS_S):
            self._cutter.look(now)
        if self._is_due("encryption", monotonic, ENCRYPTION_S):
            self._mind_encryption(now)
        if self._is_due("plan", monotonic, PLAN_S):
            self._worker.plan_rotations(self._config.rotation, now)
        if self._is_due("ends", monotonic, ENDS_S) and self._ends.look(self._config, self._store, now):
            self._tell_health()
        if monotonic >= self._due["clean"]:
            more = self._retention.clean(self._store, now)
            self._due["clean"] = monotonic + (BREATH_S if more else CLEAN_S)

    def _mind_releases(self, now: datetime, monotonic: float) -> None:
        # A clock that is not known signs nothing that says until when it is good.
        known = self._worker.policy.radius_ms > 0
        if self._releases.look(self._worker.seal.thumbprint, now, monotonic, may_renew=known):
            self._tell_health()
        line = self._line
        if self._connected and line is not None:
            self._releases.send(lambda what: self._worker.tell_release(line, what.file, what.raw, now), now, monotonic)

    def _mind_clock(self) -> None:
        """Tell the time as far as our own clock is known, from this moment on."""
        if self._time.look():
            self._tell_health()
        self._worker.policy = replace(self._worker.policy, radius_ms=self._time.radius_ms)

    def _mind_encryption(self, now: datetime) -> None:
        try:
            self._worker.hand_out(encryption.bodies(self._config, self._store, now))
        except ConfigProblem as problem:
            log.error("no encryption certificates", extra={"detail": str(problem)})  # noqa: TRY400

    def _is_due(self, timer: str, monotonic: float, every_s: float) -> bool:
        if monotonic < self._due[timer]:
            return False
        self._due[timer] = monotonic + every_s
        return True

    def _line_event(self, event: Event) -> None:
        match event:
            case Delivered(token=token):
                self._releases.delivered(token)
                return
            case Connected():
                self._connected, self._attempts = True, 0
                self._releases.line_up()
                log.info("line up", extra={"session_present": event.session_present})
                self.on_ready()
            case Lost(loss=loss, detail=detail) if event.line == self._line:
                self._connected, self._line = False, None
                self._attempts += 1
                log.warning("line lost", extra={"loss": loss, "detail": detail})
                if not self._paused:
                    chance = secrets.randbelow(1000) / 1000
                    self._open(backoff_s(self._attempts, chance, first_s=0.2, most_s=RETRY_MOST_S))
            case _:
                return
        self._tell_health()

    def _tell_health(self) -> None:
        why = self._paused or ("" if self._connected else "no line to the broker")
        why = why or self._keys.trouble or self._time.trouble
        told = (why, (*self._ends.warnings, *self._releases.warnings))
        if told != self._told:
            # Written when it changes alone: each writing is two fsyncs.
            self._told = told
            write_health(self._config.folder, *told)

    def _pause(self, why: str) -> None:
        """Give the line up and open no other: what was not acknowledged comes again when there is one."""
        if self._paused:
            return
        self._paused = why
        log.error("paused, nothing is acknowledged", extra={"detail": why})
        # Paused is served too: whoever waits for the start must not give us up.
        self.on_ready()
        self._tell_health()
        if self._line is not None:
            self._link.close(self._line)

    def _look(self) -> None:
        """Look at the disk: too little room is a pause, and one ends when there is room and the store takes a write."""
        lacking = self._room.lacking()
        if lacking:
            self._pause(lacking)
        elif self._paused:
            self._resume()

    def _resume(self) -> None:
        try:
            self._store.prove()
        except StoreProblem:
            return
        self._paused = ""
        log.info("goes on: there is room, and the store takes a write")
        self._tell_health()
        if self._line is None:
            self._open(0.0)

    def _open(self, after_s: float) -> None:
        self._line = self._link.open(self._dial, after_s=after_s)

    def _dial(self) -> Dial:
        pki = self._config.pki
        return Dial(
            host=self._config.broker.host,
            port=self._port,
            server_name=self._config.broker.host,
            client_id=self._client_id,
            context=client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem"),
            clean=False,
            subscriptions=((f"{ROOT}/d/+/up/+", 1),),
            keep_alive_s=KEEP_ALIVE_S,
        )


def _now() -> datetime:
    return datetime.now(UTC)


def main(argv: list[str] | None = None) -> int:
    """Run one worker as a process of its own: ``python -m fleetward_server.run --dir D --port P --ready FILE``."""
    parser = argparse.ArgumentParser(prog="fleetward-server", description="one Fleetward server worker")
    parser.add_argument("--dir", type=Path, required=True, help="the provider's folder")
    parser.add_argument("--port", type=int, required=True, help="where the broker listens")
    parser.add_argument("--ready", type=Path, help="a file to make once the line is up")
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument("--log-format", choices=FORMATS, default="text")
    wanted = parser.parse_args(argv)
    start_logging(wanted.log_level, wanted.log_format)
    stopping = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        config = load(wanted.dir)
        authority = opened(config, stopping)
        server = Server(config, open_store(config.store_path, create=True), wanted.port, authority)
    except (ConfigProblem, StoreProblem, AuthorityProblem, KeyUnavailable) as problem:
        log.error("cannot start", extra={"detail": str(problem)})  # noqa: TRY400
        return EXIT_CONFIG
    if wanted.ready is not None:
        server.on_ready = wanted.ready.touch
    # What is there by now stays: the collector need not walk it after every few batches.
    gc.freeze()
    server.run(stopping.is_set)
    return 0


if __name__ == "__main__":
    sys.exit(main())
