"""The exchange: a folder that goes to the offline keys and back, on a stick or however.

There: ``request.json``, what shall be released or withdrawn; ``files``, the bytes by their SHA-256; ``metadata``, what
is published now. Back: ``signed``, the metadata files that are new. Nothing in it is believed: the offline side checks
bytes and metadata by itself, and whoever publishes verifies signatures. Source: S7; decision on the repository.
"""

import json
import os
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, field
from tuf.api.metadata import Key

from fleetward_broker.durable import sync_folder, write_durably
from fleetward_schemas.errors import Refused
from fleetward_schemas.shapes import UpBody, read_json
from fleetward_schemas.upgrade import MAX_TARGET_BYTES, Custom, TargetPath, Url
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases.files import METADATA, Read, in_folder

REQUEST, FILES, SIGNED = "request.json", "files", "signed"
EXCHANGE = "exchange"
MOST_BYTES = 16 * 1024 * 1024
Hex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Wanted(UpBody, frozen=True):
    """A target that shall be released. sha256: in hexadecimal, as TUF has it. url: where others serve its bytes."""

    path: TargetPath
    length: Annotated[int, Meta(ge=1, le=MAX_TARGET_BYTES)]
    sha256: Hex
    custom: Custom
    url: Url | None = None


class OnlineKey(UpBody, frozen=True):
    """A key that shall follow in an online role. uri: at the provider's host. public: as TUF has it."""

    uri: str
    keyid: Hex
    public: dict[str, Any]

    @property
    def key(self) -> Key:
        """The public key.

        Raises:
            OperatorProblem: ``invalid``.
        """
        try:
            return Key.from_dict(self.keyid, dict(self.public))
        except (KeyError, ValueError, TypeError):
            raise OperatorProblem(Kind.INVALID, f"{self.uri}: its public key cannot be read") from None


class Request(UpBody, frozen=True):
    """All that is asked for at once. targets_days: how long what the release key signs shall be good for.

    online: keys that shall follow in ``snapshot`` and ``timestamp``, which takes a new root.
    """

    format: Literal[1] = 1
    targets_days: Annotated[int, Meta(ge=2, le=365)] = 90
    add: list[Wanted] = field(default_factory=list)
    withdraw: list[TargetPath] = field(default_factory=list)
    online: dict[Literal["snapshot", "timestamp"], OnlineKey] = field(default_factory=dict)

    def customs(self) -> dict[str, Custom]:
        """Return what is to be released, by path."""
        return {one.path: one.custom for one in self.add}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One such folder."""

    folder: Path

    @property
    def request(self) -> Request:
        """What is asked for; nothing where there is no request.

        Raises:
            OperatorProblem: ``invalid``.
        """
        path = self.folder / REQUEST
        if not path.exists():
            return Request()
        raw = path.read_bytes()
        try:
            found = read_json(Request, raw[:MOST_BYTES])
        except Refused as refusal:
            raise OperatorProblem(Kind.INVALID, f"{path}: not a request: {refusal.detail}") from None
        if len({one.path for one in found.add}) != len(found.add):
            raise OperatorProblem(Kind.INVALID, f"{path}: a path stands twice")
        return found

    def ask(self, request: Request, published: Mapping[str, bytes]) -> None:
        """Put a request in, and what is published now. Raises: OSError."""
        self.lay(METADATA, published)
        write_durably(self.folder / REQUEST, json.dumps(request.document(), indent=1).encode() + b"\n")

    def lay(self, part: str, files: Mapping[str, bytes]) -> None:
        """Have one of its folders of metadata hold these files and no others. Raises: OSError."""
        folder = self.folder / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, raw in files.items():
            (folder / f"{name}.json").write_bytes(raw)
        os.sync()

    @property
    def published(self) -> Read:
        """What the provider's host says is published."""
        return in_folder(self.folder / METADATA)

    @property
    def signed(self) -> Path:
        """Where the offline side puts what is new."""
        return self.folder / SIGNED

    def bytes_of(self, wanted_sha256: str) -> Path:
        """Return where the bytes of a target are."""
        return self.folder / FILES / wanted_sha256

    def bring(self, source: Path) -> tuple[str, int]:
        """Copy a file in; return its SHA-256 in hexadecimal and its length. Raises: OSError."""
        sha256_hex, length = measured(source)
        copied(source, self.bytes_of(sha256_hex))
        return sha256_hex, length

    def check(self, wanted: Wanted) -> None:
        """Look whether the bytes are what the request says.

        Raises:
            OperatorProblem: ``unverified``: other bytes. ``not-found``: none.
        """
        path = self.bytes_of(wanted.sha256)
        if not path.exists():
            raise OperatorProblem(Kind.NOT_FOUND, f"{wanted.path}: {path}: its bytes are not there")
        if measured(path) != (wanted.sha256, wanted.length):
            raise OperatorProblem(Kind.UNVERIFIED, f"{wanted.path}: {path}: not the bytes that the request names")

    def settle(self, published: Mapping[str, bytes], exists: Set[str]) -> None:
        """Take away what came into force, and leave what was asked for since. exists: paths that are released now.

        Raises:
            OSError.
        """
        before = self.request
        add = [one for one in before.add if one.path not in exists]
        withdraw = [path for path in before.withdraw if path in exists]
        shutil.rmtree(self.signed, ignore_errors=True)
        needed = {one.sha256 for one in add}
        for path in (self.folder / FILES).glob("*"):
            if path.name not in needed:
                path.unlink()
        if add or withdraw:
            self.ask(before.changed(add=add, withdraw=withdraw, online={}), published)
        else:
            self.clear()

    def clear(self) -> None:
        """Take everything away. Raises: OSError."""
        for part in (FILES, SIGNED, METADATA):
            shutil.rmtree(self.folder / part, ignore_errors=True)
        (self.folder / REQUEST).unlink(missing_ok=True)


def measured(path: Path) -> tuple[str, int]:
    """Return a file's SHA-256 in hexadecimal and its length. Raises: OSError."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size


def copied(source: Path, to: Path) -> None:
    """Copy a file durably: a crash leaves all of it or nothing. Raises: OSError."""
    to.parent.mkdir(parents=True, exist_ok=True)
    half = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as reading, half.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
        half.replace(to)
    finally:
        half.unlink(missing_ok=True)
    sync_folder(to.parent)
