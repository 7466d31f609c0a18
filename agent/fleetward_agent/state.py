"""What a device must remember through anything, in one small file that is replaced whole or not at all.

TinyDB over a storage of our own: temporary file, fsync, rename, fsync of the folder; the content's SHA-256 inside; the
generation before as ``.bak``. A torn or edited file falls back to that one, and says so.
Source: protocol section 5 (keys are remembered before their CSRs are sent).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tinydb import TinyDB
from tinydb.storages import MemoryStorage, Storage
from tinydb.table import Document

from fleetward_agent.upgrade_state import Software
from fleetward_broker.durable import sync_folder
from fleetward_schemas.clock import Saved
from fleetward_schemas.commands import ResultReason, ResultState, Verb
from fleetward_schemas.errors import Refused
from fleetward_schemas.shapes import read_as

FILE = "state.json"
FILE_MODE = 0o600
_ROW = 1


class StateProblem(Exception):  # noqa: N818 - says what is wrong with the state
    """Neither the state file nor its backup can be used; the message names them and what to do."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolment under way: names of its two keys, and the digital ID it speaks with.

    hello_id, nonce: of the hello that was challenged, so that the same hello can be said again after a crash.
    """

    device_key: str
    transport_key: str
    digital_id: str
    hello_id: str | None = None
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """What an enrolment gave: names of the keys, chains in base64 DER, and the digital ID for their life."""

    device_key: str
    transport_key: str
    device_chain: tuple[str, ...]
    transport_chain: tuple[str, ...]
    digital_id: str


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """The one key command there may be. outcome: None while it runs; result_id: of the report that tells it.

    device_key, transport_key: names of the keys a rotation makes, written down before they are made. csr_id: of the
    request that brings them. refusals: how many pairs the server did not want.
    """

    command_id: str
    verb: Verb
    expires_ms: int
    device_key: str = ""
    transport_key: str = ""
    csr_id: str | None = None
    refusals: int = 0
    outcome: ResultState | None = None
    reason: ResultReason | None = None
    result_id: str | None = None


@dataclass(frozen=True, slots=True)
class CarriedQuestion:
    """A time question that is carried by hand; it counts in the boot it was asked in, up to the next suspend."""

    nonce: str
    boot_us: int
    boot_id: str
    slept_us: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """The server said retired or revoked. at_ms: when, in trusted time."""

    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RefusedTime:
    """One answer or beacon that did not count. at_ms: in trusted time, or the floor while there is none."""

    at_ms: int
    kind: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class EncryptFor:
    """Whom biometrics for one domain are encrypted for: MOSIP's certificate, base64 DER, verified when it came."""

    domain_uri: str
    certificate: str


@dataclass(frozen=True, slots=True)
class Suffixes:
    """Secret ends of the client ids, made once. unsynced: for ``<id>`` while it may only ask the time."""

    factory: str = ""
    device: str = ""
    unsynced: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The whole of it. telemetry_s, time_s: the server's settings. synced_ms: when an answer last counted, 0: never.

    previous: the pair that ``pair`` replaces, until the first ``online`` under the new one is acknowledged. doomed:
    names of keys that nothing needs any more, until they are destroyed. carried, carried_seq: of bundles, the time
    question without an answer and the highest number used.
    """

    suffixes: Suffixes = field(default_factory=Suffixes)
    clock: Saved | None = None
    candidate: Candidate | None = None
    pair: Pair | None = None
    previous: Pair | None = None
    order: KeyOrder | None = None
    doomed: tuple[str, ...] = ()
    gone: Gone | None = None
    device_code: str | None = None
    telemetry_s: int = 30
    time_s: int = 600
    carried: CarriedQuestion | None = None
    carried_seq: int = 0
    synced_ms: int = 0
    refused_times: tuple[RefusedTime, ...] = ()
    encryption: tuple[EncryptFor, ...] = ()
    software: Software = field(default_factory=Software)

    def texts(self) -> frozenset[str]:
        """Return every text in it: a key whose name is none of them was never written down, or is forgotten."""
        return frozenset(_texts(msgspec.to_builtins(self)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


class AtomicJSONStorage(Storage):
    """TinyDB's storage, made durable."""

    def __init__(self, path: Path) -> None:
        """Use ``path``; reading changes nothing on disk, since ``status`` reads beside a running agent."""
        self._path = path
        self.fell_back = False

    @property
    def _backup(self) -> Path:
        return self._path.with_name(f"{self._path.name}.bak")

    def read(self) -> dict[str, dict[str, Any]] | None:
        """Return the newest whole generation, None where there never was one.

        Raises:
            StateProblem: there is something, and none of it is whole.
        """
        main = _read_whole(self._path)
        if main is not None:
            return main
        backup = _read_whole(self._backup)
        if backup is None and not self._path.exists() and not self._backup.exists():
            return None
        if backup is None:
            raise StateProblem(f"{self._path}: damaged, and so is its backup; move both away to enrol again")
        self.fell_back = True
        return backup

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Replace the content; the one before becomes the backup. Who looks meanwhile finds the one or the other."""
        text = json.dumps(data, separators=(",", ":"), sort_keys=True)
        raw = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "data": text}).encode()
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            if _read_whole(self._path) is not None:
                # A damaged file must not become the next backup.
                self._name_backup()
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(self._path.parent)

    def _name_backup(self) -> None:
        """Give the present content the backup's name too: were it moved there, for a moment there would be no file."""
        spare = self._path.with_name(f".{self._path.name}.{os.getpid()}.bak.tmp")
        spare.unlink(missing_ok=True)
        spare.hardlink_to(self._path)
        spare.replace(self._backup)
        # After a crash between here and the end of a write both names are one file's, and such a rename does nothing.
        spare.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the leftovers of writes that a crash cut short; for the one agent that works on this state."""
        for leftover in self._path.parent.glob(f".{self._path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is held open."""


def _read_whole(path: Path) -> dict[str, dict[str, Any]] | None:
    """Return the content when its hash fits, else None."""
    try:
        wrapped = json.loads(path.read_bytes())
        text = wrapped["data"]
        if hashlib.sha256(text.encode()).hexdigest() != wrapped["sha256"]:
            return None
        data = json.loads(text)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return data if isinstance(data, dict) else None


class StateFile:
    """One device's memory."""

    def __init__(self, folder: Path | None) -> None:
        """Keep it in ``folder``, made if need be; with None in memory alone, for simulated devices.

        Raises:
            OSError: the folder cannot be made.
        """
        self._storage: AtomicJSONStorage | None = None
        if folder is None:
            self._db = TinyDB(storage=MemoryStorage)
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = TinyDB(folder / FILE, storage=AtomicJSONStorage)
        if isinstance(self._db.storage, AtomicJSONStorage):
            self._storage = self._db.storage

    def load(self) -> Kept:
        """Return what was kept, or a newborn's state.

        Raises:
            StateProblem: the files are damaged or hold what this version does not know.
        """
        row = self._db.table("device").get(doc_id=_ROW)
        if not isinstance(row, Document):
            return Kept()
        try:
            return read_as(Kept, dict(row))
        except Refused as refusal:
            raise StateProblem(f"{FILE}: {refusal.detail}: not what this version keeps") from None

    def save(self, kept: Kept) -> None:
        """Write it down; a crash leaves the old or the new, whole.

        Raises:
            OSError: the disk refused; the old state stands.
        """
        self._db.table("device").upsert(Document(msgspec.to_builtins(kept), doc_id=_ROW))

    def sweep(self) -> None:
        """Clean up after a crash; see ``AtomicJSONStorage.sweep``."""
        if self._storage is not None:
            self._storage.sweep()

    @property
    def fell_back(self) -> bool:
        """Whether the state had to be taken from its backup."""
        return self._storage is not None and self._storage.fell_back
