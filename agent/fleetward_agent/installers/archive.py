"""A tar archive unpacked by somebody who does not trust it: files, folders, and links that stay inside; nothing else.

No hard links, devices or pipes; no absolute path, none with ``..``; names once; so many entries and bytes,
decompressed, and no more. Links are made after every file, so nothing is ever written through one. Owners are not
taken, and of modes only whether it runs. (Stricter than tarfile's ``data`` filter, which Python 3.11.2 has not.)
Packed with gzip, or not at all.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fleetward_agent.installers import Broken
from fleetward_agent.installers.files import writing
from fleetward_broker.durable import sync_folder
from fleetward_schemas.upgrade import Why

MOST_AT_ONCE = 1 << 20
"""What tarfile may read at once: a header that claims more is no header."""
MOST_DEPTH = 64
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Caps:
    """How much an archive may hold. size_bytes: of all of it, decompressed."""

    size_bytes: int = 2 << 30
    entries: int = 50_000


def unpack(archive: Path, folder: Path, caps: Caps) -> None:
    """Unpack into ``folder``, which is new, and have the disk hold it.

    Raises:
        Broken: the archive holds what it may not; what was unpacked so far is left there. OSError: of the disk.
    """
    folder.mkdir(mode=0o755)
    links: list[tuple[Path, str]] = []
    try:
        with _opened(archive) as packed:
            _take_all(_Forward(packed, caps.size_bytes), folder, links, caps.entries)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise Broken(f"{archive.name}: no tar archive that can be read: {type(error).__name__}") from None
    for path, target in links:
        _link(path, target, folder)
    for inner, _, __ in os.walk(folder):
        sync_folder(Path(inner))


def _take_all(stream: "_Forward", folder: Path, links: list[tuple[Path, str]], left: int) -> None:
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            left -= 1
            if left < 0:
                raise Broken("more entries in it than this device takes", Why.STORAGE)
            _take(tar, member, folder, links)
            # It would keep every one of them.
            tar.members.clear()
        if not stream.at_end:
            # tarfile takes a header that is damaged for the end.
            raise Broken("damaged, or cut short")


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, links: list[tuple[Path, str]]) -> None:
    path = folder / _inside(member.name)
    if member.isdir():
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    if path.is_symlink() or path.exists():
        raise Broken(f"{member.name[:128]!r} stands twice")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if member.issym():
        links.append((path, member.linkname))
    elif member.isreg() and not member.issparse():
        with writing(path, 0o755 if member.mode & 0o100 else 0o644) as file:
            shutil.copyfileobj(_content(tar, member), file)
    else:
        # Hard links, devices, pipes, sparse files.
        raise Broken(f"{member.name[:128]!r} is no file, folder or symbolic link")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise Broken(f"{member.name[:128]!r} has no content")
    return found


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) > MOST_DEPTH or "\0" in name:
        raise Broken(f"{name[:128]!r} leads out of the archive")
    return path


def _link(path: Path, target: str, folder: Path) -> None:
    """Make a link once every file is there; where it leads is asked of the disk itself."""
    if PurePosixPath(target).is_absolute():
        raise Broken(f"link {path.name[:128]!r} leads out of the archive")
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise Broken(f"link {path.name[:128]!r} stands where a file is") from None
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        path.unlink()
        raise Broken(f"link {path.name[:128]!r} leads out of the archive")


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """Open what is plain or gzip; what takes much memory to unpack (xz, zstd) is no archive here."""
    with archive.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as stream:
                yield cast("IO[bytes]", stream)
        else:
            yield file


class _Forward:
    """A stream read once, forwards, at most so much of it; tarfile steps back by one byte between entries."""

    def __init__(self, stream: IO[bytes], most_bytes: int) -> None:
        self._stream = stream
        self._left = most_bytes
        self._at = 0
        self._last = self._latest = b""
        self._back = False

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes; fewer at the end."""
        if not 0 <= size <= MOST_AT_ONCE:
            raise Broken("an entry's header claims more than a header can hold")
        again = self._last if self._back and size else b""
        self._back = self._back and not size
        self._at += len(again)
        self._latest = again + self._next(size - len(again))
        return self._latest

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go on to ``offset`` from the beginning, or one byte back."""
        if whence or offset < self._at - (0 if self._back else 1):
            raise Broken("the archive's entries overlap")
        if offset == self._at - 1:
            self._back, self._at = True, offset
        while self._at < offset and self.read(min(offset - self._at, MOST_AT_ONCE)):
            pass
        return self._at

    @property
    def at_end(self) -> bool:
        """Whether what was read last is the block of zeros that ends an archive."""
        return self._latest == bytes(tarfile.BLOCKSIZE)

    def tell(self) -> int:
        """Return how far it was read."""
        return self._at

    def _next(self, size: int) -> bytes:
        if size > self._left:
            size = self._left + 1
        more = self._stream.read(size)
        self._left -= len(more)
        if self._left < 0:
            raise Broken("more bytes in it than this device takes", Why.STORAGE)
        self._last = more[-1:] or self._last
        self._at += len(more)
        return more
