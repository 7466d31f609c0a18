"""The repository's duties in a running server: the online roles said anew in time, and the set held at the broker.

Told a slice at a time, so that devices' messages never wait for it. Source: ``retained``, ``online``;
deploy/decisions/0001 "One concurrency style".
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fleetward_broker.durable import write_durably
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Token
from fleetward_server.config import Config
from fleetward_server.locks import Busy
from fleetward_server.problem import OperatorProblem
from fleetward_server.releases import online
from fleetward_server.releases.files import METADATA, TIMESTAMP, Whole
from fleetward_server.releases.places import TOLD, home
from fleetward_server.releases.proving import has_repository
from fleetward_server.releases.retained import Next, Retained, readable
from fleetward_server.releases.shelf import open_repository

log = logging.getLogger("fleetward.releases")

LOOK_S = 1.0
RENEW_S = 60.0
FILES_PER_S = 40
"""With a set of 260 files, some seven seconds at the start and after that one or a few."""
BURST = 8

Publish = Callable[[Next], Token | None]
"""Seals and publishes one file, or clears it; None where the line takes nothing now."""


class ReleaseDuty:
    """Does what is due of the repository of one provider, where there is one."""

    def __init__(self, config: Config) -> None:
        """Nothing is read yet."""
        self._config = config
        self._plan: Retained | None = None
        self._whole: Whole | None = None
        self._seen: tuple[int, int] | None = None
        self._look_at = self._renew_at = 0.0
        self._counted_at = 0.0
        self._allowance = float(BURST)
        self.trouble = ""

    @property
    def readable(self) -> bool:
        """Whether the broker holds the set that is in force, so that what is in it can be read; or there is none."""
        if self._plan is None:
            return not has_repository(self._config.folder)
        return self._plan.done and self._stamp() == self._seen

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know."""
        return (f"releases: {self.trouble}",) if self.trouble else ()

    def look(self, sealed_by: str, now: datetime, monotonic: float, *, may_renew: bool) -> bool:
        """See what has changed, and say anew what ends; return whether ``warnings`` changed.

        may_renew: the time is known.
        """
        if monotonic < self._look_at:
            return False
        self._look_at, before = monotonic + LOOK_S, self.trouble
        try:
            if has_repository(self._config.folder):
                self._read()
                self._renew(now, monotonic, may_renew=may_renew)
            self.trouble = ""
        except (OperatorProblem, KeyUnavailable, OSError, ValueError) as problem:
            self._tell(str(problem))
        if self._plan is not None and self._plan.look(sealed_by, now):
            self._write_down()
        return self.trouble != before

    def send(self, publish: Publish, now: datetime, monotonic: float) -> None:
        """Publish what is next, as much as the pace allows."""
        self._allowance = min(BURST, self._allowance + (monotonic - self._counted_at) * FILES_PER_S)
        self._counted_at = monotonic
        while self._plan is not None and self._allowance >= 1 and (what := self._plan.next(now)) is not None:
            token = publish(what)
            if token is None:
                self._plan.not_sent(what)
                return
            self._plan.sent(token, what)
            self._allowance -= 1

    def delivered(self, token: Token) -> None:
        """The broker took what went under this token."""
        if self._plan is not None and self._plan.delivered(token):
            self._write_down()

    def line_up(self) -> None:
        """There is a new line: the broker may have forgotten everything."""
        if self._plan is not None:
            self._plan.begin_again()

    def _read(self) -> None:
        seen = self._stamp()
        if seen == self._seen:
            return
        whole = open_repository(self._config.folder)
        self._plan = self._plan or Retained(self._told())
        self._plan.hold(whole.files)
        self._whole, self._seen = whole, seen
        log.info("release repository read", extra={"files": len(whole.files), "root": whole.offline.root.version})

    def _stamp(self) -> tuple[int, int]:
        """Tell one set in force from the next: every one has another ``timestamp``."""
        found = (home(self._config.folder) / METADATA / f"{TIMESTAMP}.json").stat()
        return (found.st_ino, found.st_mtime_ns)

    def _renew(self, now: datetime, monotonic: float, *, may_renew: bool) -> None:
        if self._whole is None or not may_renew or monotonic < self._renew_at or not online.due(self._whole, now):
            return
        self._renew_at = monotonic + RENEW_S
        with suppress(Busy):  # There is half a day to try.
            if online.renew(self._config, now):
                log.info("release roles said anew")
                self._read()

    def _tell(self, problem: str) -> None:
        if problem != self.trouble:
            log.error("release repository", extra={"detail": problem})
        self.trouble = problem

    @property
    def _path(self) -> Path:
        return home(self._config.folder) / TOLD

    def _told(self) -> dict[str, datetime | None]:
        return readable(json.loads(self._path.read_bytes())) if self._path.exists() else {}

    def _write_down(self) -> None:
        if self._plan is None:
            return
        told = {file: None if since is None else since.isoformat() for file, since in self._plan.told.items()}
        try:
            write_durably(self._path, json.dumps(told).encode())
        except OSError as error:
            # What is not written down is not cleared after a restart, which does no harm.
            self._tell(f"{self._path}: {error.strerror}")
