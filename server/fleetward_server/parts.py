"""A part of what ``up`` runs: one child process, its log, its start and its end.

Children end with their supervisor, however it ends.
"""

import ctypes
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

log = logging.getLogger("fleetward.up")

PR_SET_PDEATHSIG = 1
STOP_S = 15.0
TRIM_S = 10.0
MOST_LOG_BYTES = 64 * 1024 * 1024


class StartFailed(Exception):  # noqa: N818 - says what is so
    """A part did not come up; the message carries its own last words."""


@dataclass(slots=True)
class Part:
    """One child process. failures: how often it ended by itself since it last ran for a while."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    started: float
    failures: int = 0
    trim_at: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def first_line(self) -> str:
        """Wait for the first line it prints.

        Raises:
            StartFailed: it ended without one.
        """
        stream = self.process.stdout
        line = "" if stream is None else stream.readline()
        if not line:
            self.process.wait(STOP_S)
            raise StartFailed(f"{self.name}: {self.last_words}")
        return line

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

    def end(self) -> None:
        """Ask it to end, and wait; after a while, end it."""
        if self.alive:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(name: str, command: Sequence[str], log: Path, folder: Path | None = None) -> Part:
    """Start a part. log: where its stderr goes. folder: where it starts, ours if left out."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),
        )
    return Part(name, process, log, time.monotonic())


def _die_with(parent: int) -> None:
    """In the child: be ended when the supervisor is, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It was ended before it could be said.
        os._exit(1)
