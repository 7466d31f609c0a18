"""Files that a crash leaves whole: the old content or the new one, with the folder's entry; and secrets, nobody else's.

Source: deploy/decisions/0001 "Commit, then acknowledge, then send".
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PRIVATE_MODE = 0o600


def write_private(path: Path, raw: bytes) -> None:
    """Write a secret durably with mode 0600: temporary file, fsync, rename, fsync of the folder."""
    write_durably(path, raw, PRIVATE_MODE)


def write_durably(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` so that a crash leaves the old or the new content, never a part.

    Raises:
        OSError: naming ``path``, also where the system names none, as on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Write a long text that stands in ``path`` once it is whole; what ends before leaves nothing.

    What is no file, a pipe or a terminal, is written as it comes.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def shred(path: Path) -> None:
    """Put zeros where a secret was, have the disk do it, then remove the file; a link in its place is not followed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(bytes(os.fstat(descriptor).st_size))
        file.flush()
        os.fsync(descriptor)
    path.unlink()


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
