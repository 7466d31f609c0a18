"""Who serves a provider's folder: a lock that tells a live process from a stale one, and what ``run.json`` says."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

RUN = "run.json"
LOCK = ".lock"


class Held(Exception):  # noqa: N818 - says what is so
    """Another ``up`` holds the folder; the message says which process."""


class NotRunning(Exception):  # noqa: N818
    """Nothing serves this folder."""


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
