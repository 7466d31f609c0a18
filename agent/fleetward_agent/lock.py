"""One agent per state: two on one state would use one number twice."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Busy(Exception):  # noqa: N818 - says what is the matter
    """Another agent works on this state."""


@contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Hold a state folder, made if need be; the system lets it go when the process ends.

    Raises:
        Busy: another process, or another device of this one, holds it. OSError: it cannot be made.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{state_dir}: another agent is running on this state") from None
        yield
