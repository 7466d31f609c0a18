"""Files that are whole or not there at all, and hashes of them."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fleetward_broker.durable import sync_folder
from fleetward_schemas.strict import b64url

CHUNK_BYTES = 1 << 20


def digest(path: Path) -> str | None:
    """Return base64url of a file's SHA-256; None where there is no file."""
    try:
        with path.open("rb") as file:
            return b64url(hashlib.file_digest(file, "sha256").digest())
    except FileNotFoundError:
        return None


def copy_durably(source: Path, target: Path, mode: int) -> None:
    """Replace ``target`` by a copy; a crash leaves it as it was or whole."""
    temporary = target.with_name(f".{target.name}.new")
    with source.open("rb") as read, writing(temporary, mode) as write:
        shutil.copyfileobj(read, write, CHUNK_BYTES)
    move_durably(temporary, target)


@contextlib.contextmanager
def writing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Write a new file of exactly ``mode``, on the disk when it is closed; a link in its place is not followed."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        yield file
        file.flush()
        os.fsync(descriptor)


def move_durably(source: Path, target: Path) -> None:
    """Rename within one folder, and have the disk know it."""
    source.replace(target)
    sync_folder(target.parent)


def link_durably(link: Path, target: str) -> None:
    """Have ``link`` lead to ``target`` by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    move_durably(temporary, link)


def remove_durably(path: Path) -> None:
    """Remove a file or link, if it is there."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a tree, whatever modes it has."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for folder, _, __ in os.walk(path):
        Path(folder).chmod(0o700)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
