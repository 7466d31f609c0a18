"""A maker's own program: argument list, no shell, a bare environment, a session of its own, an end in time.

What it prints to stderr is thrown away, what it prints to stdout is kept to 16 KiB and never logged (C10: anything
might stand there). Source: the manner of ``programs``.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from fleetward_agent.installers import Broken
from fleetward_schemas.upgrade import Why

MOST_BYTES = 16 * 1024
LOOK_S = 0.2
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Tool:
    """How programs are run. within_s: the time for each; stop: set when the process ends."""

    stop: Event
    within_s: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, words: Sequence[str], folder: Path) -> str:
        """Run a program to its end; return what it printed, at most ``MOST_BYTES``.

        Raises:
            Broken: it cannot be run, ended with anything but 0, or not in time; ``interrupted`` if told to stop.
        """
        try:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT | dict(self.environment),
                cwd=folder,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Broken(f"{words[0]}: cannot be run: {error}") from None
        try:
            said = self._hear(process, words[0])
        finally:
            _end(process)
        if process.returncode:
            raise Broken(f"{words[0]}: ended with {process.returncode}")
        return said.decode("utf-8", "replace")

    def _hear(self, process: "subprocess.Popen[bytes]", name: str) -> bytes:
        """Hear a program out until it has ended, whoever still holds its output then."""
        said, until, ended = bytearray(), time.monotonic() + self.within_s, os.pidfd_open(process.pid)
        try:
            with selectors.PollSelector() as selector:
                selector.register(ended, selectors.EVENT_READ)
                if process.stdout is not None:
                    os.set_blocking(process.stdout.fileno(), False)
                    selector.register(process.stdout, selectors.EVENT_READ)
                while True:
                    self._check(until, name)
                    ready = {key.fd for key, _ in selector.select(LOOK_S)}
                    for descriptor in ready - {ended}:
                        if not _read(descriptor, said):
                            selector.unregister(descriptor)
                    # What it said before its end is in the pipe, which holds no more than is kept.
                    if ended in ready and (len(said) >= MOST_BYTES or ready == {ended}):
                        return bytes(said)
        finally:
            os.close(ended)

    def _check(self, until: float, name: str) -> None:
        if self.stop.is_set():
            raise Broken(f"{name}: stopped, for the agent ends", Why.INTERRUPTED)
        if time.monotonic() >= until:
            raise Broken(f"{name}: no end within {self.within_s:g} s")


def _read(descriptor: int, said: bytearray) -> bool:
    """Read once; what is over the limit is thrown away. Say whether there may be more."""
    more = os.read(descriptor, MOST_BYTES)
    said += more[: MOST_BYTES - len(said)]
    return bool(more)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and all it started. Not reaped yet, so the number still is this session's own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
    process.wait()
