"""The server's loop: the one place here that waits, reads the clock, and touches the world.

One thread around one selector. A store that fails costs the line, not the data: nothing is acknowledged, the broker
gives it all again, once there is room and the store takes a write.
Source: deploy/decisions/0001 "One concurrency style".
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Arrived, Connected, Delivered, Event, Lost
from fleetward_broker.link import SelectorLink
from fleetward_broker.tls import CredentialsUnusable
from fleetward_server import encryption
from fleetward_server.authority import Authority
from fleetward_server.broker_line import BrokerLine
from fleetward_server.clock import sureness, tellable
from fleetward_server.clock_watch import Timekeeper
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.cutting import Cutter
from fleetward_server.disk import Room
from fleetward_server.ending import EndWatch
from fleetward_server.generations import AuthorityProblem, own_anchors
from fleetward_server.health import forget_health, write_health
from fleetward_server.key_watch import KeyWatch, opened
from fleetward_server.outgoing import Outgoing
from fleetward_server.policy import policy_of
from fleetward_server.pulse import Pulse, write_pulse
from fleetward_server.releases.duty import ReleaseDuty
from fleetward_server.retention import Retention
from fleetward_server.starting import told, told_to_end
from fleetward_server.store import Store, StoreProblem, open_store
from fleetward_server.timers import Duty, Timers
from fleetward_server.worker import Worker

log = logging.getLogger("fleetward.server")

TURN_S = 0.2
BREATH_S = 0.25
BATCH_MOST = 2000
GATHER_S = 0.06
EXIT_CONFIG = 2


class Server:
    """A worker on its line, with its timers."""

    def __init__(self, config: Config, store: Store, port: int, authority: Authority | None = None) -> None:
        """Make the signing key of this start. port: where the broker listens now. authority: opened if left out."""
        self._config = config
        self._store = store
        self._link = SelectorLink(time.monotonic, gather_s=GATHER_S)
        self._time = Timekeeper(lambda: sureness(config.time))
        authority = authority or Authority(config)
        self._keys, self._ends = KeyWatch(authority), EndWatch()
        self._worker = Worker(
            store, self._link, authority, policy_of(config, self._time.sure), own_anchors(config), _now()
        )
        self._line = BrokerLine(config, port, self._link)
        self._timers = Timers(config.time.beacon_s)
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
            self._line.open()
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
        arrived = self._line.answerable(arrived)
        try:
            self._take(arrived, now, monotonic)
            self._do_what_is_due(now, monotonic)
        except StoreProblem as problem:
            self._pause(str(problem))
        if self._timers.due(Duty.ROOM, monotonic):
            self._look()
        if self._timers.due(Duty.KEYS, monotonic) and self._keys.look():
            self._tell_health()

    def close(self) -> None:
        """Disconnect and release what was opened."""
        self._line.close()
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
        line = self._line.id
        if line is not None and (out.replies or out.receipts):
            # A time answer says when it left, so this is a reading of its own; the clock may have stepped meanwhile.
            self._mind_clock()
            out.replies = tellable(out.replies, self._worker.policy.radius_ms)
            self._worker.send(out, line, _now())

    def _do_what_is_due(self, now: datetime, monotonic: float) -> None:
        self._worker.renew(now)
        if self._paused:
            return
        self._mind_releases(now, monotonic)
        line = self._line.id
        if self._line.stands and line is not None:
            # A server that does not know its own error tells no time, beacons included.
            if self._timers.due(Duty.BEACON, monotonic) and self._worker.policy.radius_ms:
                self._worker.beacon(line, now)
                own = self._worker.seal
                write_pulse(self._config.folder, Pulse(now, own.thumbprint, own.not_after))
            if self._timers.due(Duty.CHORES, monotonic):
                self._send(self._worker.chores(now, assigns=self._releases.readable))
        if self._timers.due(Duty.SILENCE, monotonic):
            self._worker.miss(now)
        if self._timers.due(Duty.CUTS, monotonic):
            self._cutter.look(now)
        if self._timers.due(Duty.ENCRYPTION, monotonic):
            self._mind_encryption(now)
        if self._timers.due(Duty.PLAN, monotonic):
            self._worker.plan_rotations(self._config.rotation, now)
        if self._timers.due(Duty.ENDS, monotonic) and self._ends.look(self._config, self._store, now):
            self._tell_health()
        # A clock that is not known does not say either what is old enough to be thrown away.
        known = self._worker.policy.radius_ms > 0
        if known and self._timers.due(Duty.CLEAN, monotonic) and self._retention.clean(self._store, now):
            # There is more, and batches go in between.
            self._timers.plan(Duty.CLEAN, monotonic + BREATH_S)

    def _mind_releases(self, now: datetime, monotonic: float) -> None:
        # A clock that is not known signs nothing that says until when it is good.
        known = self._worker.policy.radius_ms > 0
        if self._releases.look(self._worker.seal.thumbprint, now, monotonic, may_renew=known):
            self._tell_health()
        line = self._line.id
        if self._line.stands and line is not None:
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

    def _line_event(self, event: Event) -> None:
        match event:
            case Delivered(token=token):
                self._releases.delivered(token)
                return
            case Connected():
                self._line.came_up()
                self._releases.line_up()
                log.info("line up", extra={"session_present": event.session_present})
                self.on_ready()
            case Lost(loss=loss, detail=detail) if event.line == self._line.id:
                self._line.lost()
                log.warning("line lost", extra={"loss": loss, "detail": detail})
                if not self._paused:
                    self._line.open_again()
            case _:
                return
        self._tell_health()

    def _tell_health(self) -> None:
        why = self._paused or ("" if self._line.stands else "no line to the broker")
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
        self._line.close()

    def _look(self) -> None:
        """Look at the disk: too little room is a pause, and one ends when there is room and the store takes a write."""
        lacking = self._room.lacking() or self._store.astray()
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
        if self._line.id is None:
            self._line.open()


def _now() -> datetime:
    return datetime.now(UTC)


def main(argv: list[str] | None = None) -> int:
    """Run one worker as a process of its own: ``python -m fleetward_server.run --dir D --port P --ready FILE``."""
    parser = argparse.ArgumentParser(prog="fleetward-server", description="one Fleetward server worker")
    parser.add_argument("--port", type=int, required=True, help="where the broker listens")
    parser.add_argument("--ready", type=Path, help="a file to make once the line is up")
    wanted, stopping = told(parser, argv), told_to_end()
    try:
        config = load(wanted.dir)
        authority = opened(config, stopping)
        server = Server(config, open_store(config.store_path, migrate=True), wanted.port, authority)
        if wanted.ready is not None:
            server.on_ready = wanted.ready.touch
        # What is there by now stays: the collector need not walk it after every few batches.
        gc.freeze()
        server.run(stopping.is_set)
    except (ConfigProblem, StoreProblem, AuthorityProblem, KeyUnavailable, CredentialsUnusable) as problem:
        log.error("cannot serve", extra={"detail": str(problem)})  # noqa: TRY400
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
