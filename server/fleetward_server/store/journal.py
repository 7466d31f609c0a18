"""The journal ``issued.log``: what a database restored from a backup could not know, one JSON line each.

A line is on the disk before the commit it tells of, so before any answer leaves: a certificate that a device holds
stands here. It is append-only and may be shipped elsewhere or moved away at any time. Nothing in it is secret.
Source: backup.py for who reads it; protocol section 5 "First contact".
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from fleetward_broker.durable import PRIVATE_MODE, sync_folder
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, DigitalId, Purpose
from fleetward_schemas.strict import b64_der, show_der
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Certificate, Device, Use

FILE = "issued.log"
VERSION = 1


class JournalDamaged(Exception):  # noqa: N818 - says what is wrong with the line
    """A line cannot be read: torn by a crash or a full disk, or changed by hand."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One certificate of a line, in DER, with the CA that issued it. pair: the request that made it and its twin."""

    use: Use
    pair: str
    der: bytes
    authority: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. device: its record at that moment. leaves: what was issued to it, none where only its state changed."""

    device: Device
    leaves: tuple[Leaf, ...]


def show(device: Device, certificates: Sequence[Certificate] = ()) -> bytes:
    """Write one line: a device whose certificates were issued, or whose state silences or unsilences it."""
    document = {
        "v": VERSION,
        "at": None if device.changed_at is None else device.changed_at.isoformat(),
        "id": device.id,
        "state": device.state,
        "certification": device.certification,
        "purpose": device.purpose,
        "identity": device.identity.document(),
        "listed": device.listed,
        "ftm_key": device.ftm_key,
        "enrolments": device.enrolments,
        "certificates": list(map(_shown, certificates)),
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _shown(one: Certificate) -> dict[str, str]:
    return {"use": one.use, "pair": one.pair, "der": show_der(one.der), "authority": show_der(one.authority)}


def read(line: bytes) -> Entry:
    """Read one line.

    Raises:
        JournalDamaged: it is not one of ours.
    """
    try:
        found = json.loads(line)
        if found["v"] != VERSION:
            raise JournalDamaged(f"version {found['v']}: this Fleetward reads {VERSION}")
        device = Device(
            id=DeviceId(str(found["id"])),
            state=State(found["state"]),
            certification=Certification(found["certification"]),
            purpose=Purpose(found["purpose"]),
            identity=DigitalId.read(found["identity"]),
            listed=bool(found["listed"]),
            ftm_key=None if found["ftm_key"] is None else str(found["ftm_key"]),
            enrolments=int(found["enrolments"]),
            changed_at=None if found["at"] is None else _moment(found["at"]),
        )
        return Entry(device, tuple(map(_leaf, found["certificates"])))
    except (ValueError, KeyError, TypeError, AttributeError, Refused) as error:
        raise JournalDamaged(f"not a line of {FILE}: {type(error).__name__}") from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise JournalDamaged("a moment without its zone")
    return moment


def _leaf(found: dict[str, str]) -> Leaf:
    return Leaf(Use(found["use"]), str(found["pair"]), b64_der(found["der"]), b64_der(found["authority"]))


def lines(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that hold something."""
    return (line for line in raw if line.strip())


def append(path: Path, raw: bytes) -> None:
    """Add lines and have them on the disk before this returns; what a crash tore before stays a line of its own.

    Raises:
        OSError: nothing of it stays.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_MODE)
    with os.fdopen(descriptor, "rb+", buffering=0) as file:
        # The worker and an operator's command may both write; without the lock one's cut could take the other's lines.
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        try:
            _write(file, (b"" if _whole(file, size) else b"\n") + raw)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise
    if new:
        sync_folder(path.parent)


def _whole(file: BinaryIO, size: int) -> bool:
    if size == 0:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _write(file: BinaryIO, raw: bytes) -> None:
    rest = memoryview(raw)
    while rest:
        rest = rest[file.write(rest) :]
