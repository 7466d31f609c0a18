"""A part of what ``up`` runs: one child process, its log, its start and its end.

Children end with their supervisor, however it ends.
"""

import ctypes
import logging
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

log = logging.getLogger("fleetward.up")

PR_SET_PDEATHSIG = 1
STOP_S = 15.0
START_S = 30.0
STEADY_S = 2.0
MOST_WAIT_S = 3.0
LOOK_S = 0.02
TRIM_S = 10.0
MOST_LOG_BYTES = 64 * 1024 * 1024


class StartFailed(Exception):  # noqa: N818 - says what is so
    """A part did not come up; the message carries its own last words."""


@dataclass(slots=True)
class Part:
    """One child process. failures: how often it ended by itself since it last ran for a while.

    given_up: whether nobody wants it any more. again_at, asked_until: by time.monotonic(): when its successor may be
    started, once it has ended; until when it may end by itself, once it was asked to.
    """

    name: str
    process: subprocess.Popen[str]
    log: Path
    started: float
    failures: int = 0
    trim_at: float = 0.0
    given_up: Callable[[], bool] = lambda: False
    again_at: float | None = None
    asked_until: float | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def first_line(self, within_s: float = START_S) -> str:
        """Wait for the first line it prints.

        Raises:
            StartFailed: as ``await_``.
        """
        stream = self.process.stdout
        if stream is None:
            raise StartFailed(f"{self.name}: nobody hears it")
        heard = select.poll()
        heard.register(stream, select.POLLIN)
        self.await_(lambda: bool(heard.poll(0)), within_s)
        line = stream.readline()
        if not line:
            raise self._failed("")
        return line

    def await_(self, happened: Callable[[], bool], within_s: float = START_S, where: str = "") -> None:
        """Wait for what it does as it starts; one that does not is ended, so that another can be started.

        Raises:
            StartFailed: it ended, was slow, or nobody wants it any more; it does not run.
        """
        deadline = time.monotonic() + within_s
        while not happened():
            if not self.alive or self.given_up() or time.monotonic() > deadline:
                raise self._failed(where)
            time.sleep(LOOK_S)

    def _failed(self, where: str) -> StartFailed:
        slow = " is not there in time" if self.alive else ""
        self.process.kill()
        self.process.wait()
        return StartFailed(f"{self.name}{where}{slow}: {self.last_words}")

    def may_follow(self, monotonic: float) -> bool:
        """Say whether another may be started in its place: at once, and the later the oftener it ended by itself."""
        if self.alive:
            return False
        if self.again_at is None:
            if self.asked_until is not None:
                self.again_at = monotonic
                return True
            self.failures = 1 if monotonic - self.started > STEADY_S else self.failures + 1
            wait_s = 0.0 if self.failures == 1 else min(MOST_WAIT_S, 0.25 * 2**self.failures)
            log.error("part ended", extra={"part": self.name, "exit": self.process.returncode, "again_in_s": wait_s})
            self.again_at = monotonic + wait_s
        return monotonic >= self.again_at

    def trim(self, monotonic: float) -> None:
        """Look now and then; begin its log anew when that has grown long, what stood in it beside it as ``.1``."""
        if monotonic < self.trim_at:
            return
        self.trim_at = monotonic + TRIM_S
        try:
            if self.log.stat().st_size > MOST_LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
                # It appends: what it says next stands at the new beginning.
                os.truncate(self.log, 0)
        except OSError as error:
            log.warning("log not trimmed", extra={"part": self.name, "detail": str(error)})

    def ask_to_end(self) -> None:
        """Ask it to end, and wait for nothing; ``press`` later."""
        if self.alive and self.asked_until is None:
            self.process.terminate()
            self.asked_until = time.monotonic() + STOP_S

    def press(self, monotonic: float) -> None:
        """End it, if it was asked to for long enough."""
        if self.asked_until is not None and monotonic > self.asked_until and self.alive:
            self.process.kill()

    def end(self) -> None:
        """Ask it to end, and wait; after a while, end it."""
        self.ask_to_end()
        try:
            self.process.wait(max(0.0, (self.asked_until or 0.0) - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(
    name: str,
    command: Sequence[str],
    log: Path,
    folder: Path | None = None,
    *,
    keeps: Sequence[int] = (),
    given_up: Callable[[], bool] = lambda: False,
) -> Part:
    """Start a part. log: where its stderr goes. folder: where it starts, or ours. keeps: open files it inherits."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
            pass_fds=keeps,
            preexec_fn=partial(_die_with, os.getpid()),
        )
    return Part(name, process, log, time.monotonic(), given_up=given_up)


def _die_with(parent: int) -> None:
    """In the child: be ended when the supervisor is, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It was ended before it could be said.
        os._exit(1)
