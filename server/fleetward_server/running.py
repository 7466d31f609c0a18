"""Who serves a provider's folder: a lock that tells a live process from a stale one, and what ``run.json`` says.

Whoever serves is told here to take up what changed, and to end.
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fleetward_server.parts import STOP_S

RUN = "run.json"
LOCK = ".lock"
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
        if _try_lock(file, fcntl.LOCK_SH):
            return None
        pid = _holder(file)
    try:
        found = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) and found.get("pid") == pid else {"pid": pid}


def reload_running(folder: Path) -> bool:
    """Have the ``up`` that serves take up configuration and keys, and wait until it has; False if none serves.

    Raises:
        Held: it cannot, or does not; the message says what to do.
    """
    before = running(folder)
    if before is None:
        return False
    if not before.get("hears"):
        raise Held(f"{folder}: what serves it takes up nothing new; end it and start it again")
    with suppress(ProcessLookupError):  # It ended as we looked, and the next look says so.
        os.kill(int(before["pid"]), signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_S
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
        while not _try_lock(file, fcntl.LOCK_EX):
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


def _try_lock(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> int:
    """Return the process id in a lock; 0 while its holder has not written it yet."""
    file.seek(0)
    said = file.read().strip()
    return int(said) if said.isdecimal() else 0
