"""Locks between the processes that work in one folder. Each wait is bounded, and they are taken in this order alone.

| lock | who takes it | what is waited for while it is held |
|---|---|---|
| ``.parts.lock`` | ``up``, and what it starts inherits it: it lasts until the last has ended | all of these |
| ``releases/.lock`` | who asks, publishes, backs up; the worker, at once or not | bytes copied, a token, those below |
| ``pki/.succession.lock`` | who changes keys or ``fleetward.toml``; a backup | a token, the next, the broker (20 s) |
| ``pki/crl/.lock`` | who writes revocation lists | a token, reads of the store |
| SQLite's | each ``unit()`` of the store, for ``PATIENCE_S`` at most | a token, the next |
| ``issued.log`` | worker and operators, inside a ``unit()`` | the disk |

A token answers within ``fleetward-wait`` seconds or is lost. What starts the broker (``supervise.py``) waits for none
longer than ``SERVING_S``, for a part as it starts ``START_S`` and as it ends ``STOP_S`` (``parts.py``): whoever
holds a lock may be waiting for the broker, and that for the supervisor. ``.lock`` says who serves; nobody waits for it.
"""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SERVING_S = 2.0
"""What serves waits no longer: who holds keys may be waiting for it."""
CHANGE_S = 10.0
COPY_S = 30.0
LOOK_S = 0.02


class Busy(OSError):  # noqa: N818 - says what is so
    """Another process holds what was asked for; nothing was changed."""

    def __init__(self, path: Path, why: str) -> None:
        """Say what is held, and what whoever holds it does."""
        super().__init__(errno.EBUSY, why, str(path))

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.filename}: {self.strerror}"


@contextmanager
def held(path: Path, within_s: float, doing: str) -> Iterator[None]:
    """Hold a lock, its file made if need be; it ends with its process, however that ends.

    doing: what another process does who holds it. Raises: Busy: it holds it for longer than ``within_s``. OSError.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + within_s
        while not take(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Busy(path.parent, f"another process {doing}; try again")
            time.sleep(LOOK_S)
        yield


def take(file: IO[str], how: int) -> bool:
    """Take a lock if nobody else has it now; say whether it was taken."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
