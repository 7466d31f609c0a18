"""Who serves a provider's folder: a lock that tells a live process from a stale one, and what ``run.json`` says.

Whoever serves is told here to take up what changed, and to end.
"""

import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fleetward_server.locks import take
from fleetward_server.parts import STOP_S

log = logging.getLogger("fleetward.up")

RUN = "run.json"
LOCK = ".lock"
PARTS_LOCK = ".parts.lock"
READY = ".server-ready"
"""There once the server has its line."""
RELOAD_S = 60.0
LOOK_S = 0.05
GLANCE_S = 1.0
"""How long somebody who only looks may keep the lock."""


class Held(Exception):  # noqa: N818 - says what is so
    """Another ``up`` holds the folder; the message says which process."""


class NotRunning(Exception):  # noqa: N818
    """Nothing serves this folder."""


def running(folder: Path) -> dict[str, Any] | None:
    """Return what ``run.json`` says of the process that holds the lock, else None.

    Of one that is only starting, or ending, the process id alone: a ``run.json`` that another left behind is not its.
    """
    if not (folder / LOCK).exists():
        return None
    with (folder / LOCK).open() as file:
        # Shared: who looks at the same moment is not taken for a holder.
        if take(file, fcntl.LOCK_SH):
            return None
        pid = _holder(file)
    try:
        found = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) and found.get("pid") == pid else {"pid": pid}


def is_part(pid: int, of: int) -> bool:
    """Say whether a process runs, and is one that process ``of`` started: its number may be a stranger's by now."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state != "Z" and int(parent) == of


def reload_running(folder: Path) -> bool:
    """Have the ``up`` that serves take up configuration and keys, and wait until it has; False if none serves.

    One that is only starting is waited for: what it has read already may be what was before.

    Raises:
        Held: it cannot, or does not; the message says what to do.
    """
    deadline = time.monotonic() + RELOAD_S
    while (before := running(folder)) is not None and "hears" not in before:
        if time.monotonic() > deadline:
            raise Held(f"{folder}: it does not come to serve; see {folder}/server.log and what up says")
        time.sleep(LOOK_S)
    if before is None:
        return False
    if not before["hears"]:
        raise Held(f"{folder}: what serves it takes up nothing new; end it and start it again")
    with suppress(ProcessLookupError):  # It ended as we looked, and the next look says so.
        os.kill(int(before["pid"]), signal.SIGHUP)
    while (found := running(folder)) is not None:
        if found.get("server", before.get("server")) != before.get("server") and (folder / READY).exists():
            return True
        if time.monotonic() > deadline:
            raise Held(f"{folder}: it serves on with the former keys; see {folder}/server.log and what up says")
        time.sleep(LOOK_S)
    return False


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
    if not pid:
        raise Held(f"{folder}: it is only beginning to serve; try again")
    with suppress(ProcessLookupError):  # It ended as we looked.
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * STOP_S
    while running(folder) is not None:
        if time.monotonic() > deadline:
            raise Held(f"process {pid} does not end; see {folder}/server.log and broker.log")
        time.sleep(LOOK_S)
    return pid


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder; a lock ends with its process, so it is never stale.

    Raises:
        Held: another process holds it.
    """
    with (folder / LOCK).open("a+") as file:
        deadline = time.monotonic() + GLANCE_S
        while not take(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Held(
                    f"{folder}: process {_holder(file)} is serving it; stop it with: fleetward down --dir {folder}"
                )
            # Somebody may only be looking.
            time.sleep(LOOK_S)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def childless(folder: Path) -> Iterator[int]:
    """Wait until nothing runs that a former ``up`` of this folder started; hold the folder first.

    Yields an open file for each child to inherit: its lock lasts until the last of them has ended. What does not end is
    told, and waited for no longer.
    """
    with (folder / PARTS_LOCK).open("a") as file:
        deadline = time.monotonic() + STOP_S
        while not take(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                log.error("what a former up started still runs", extra={"detail": str(folder)})
                break
            time.sleep(LOOK_S)
        yield file.fileno()


def _holder(file: IO[str]) -> int:
    """Return the process id in a lock; 0 while its holder has not written it yet."""
    file.seek(0)
    said = file.read().strip()
    return int(said) if said.isdecimal() else 0
