"""A backup's file: a tar of a manifest, its seal, and the members that the manifest names, in its order.

Nothing is read from it that the manifest does not name with its hash, and nothing but plain files. The seal is the
manifest's own hash, and under a passphrase also a MAC that only its holder can make. Source: POSIX pax; RFC 7914.
"""

import hashlib
import hmac
import json
import os
import secrets
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fleetward_broker.durable import PRIVATE_MODE, sync_folder

FORMAT = 1
MANIFEST = "manifest.json"
SEAL = "seal.json"
SMALL_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
SALT_BYTES = 16
SCRYPT_N, SCRYPT_R, SCRYPT_MEMORY = 1 << 15, 8, 1 << 26


class ArchiveDamaged(Exception):  # noqa: N818 - says what is wrong with the file
    """The file is not a whole backup as it was made; the message names the first part that does not hold."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup.

    what: ``database``, ``configuration``, ``client-id``, ``certificate``, ``release`` or ``key``.
    """

    name: str
    what: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup that holds. manifest_hash: hex. authentic: a passphrase proved that its holder made it."""

    manifest: Mapping[str, Any]
    manifest_hash: str
    members: tuple[Member, ...]
    authentic: bool


def member_of(path: Path, name: str, what: str) -> Member:
    """Describe a file that is to become a member."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return Member(name, what, path.stat().st_size, digest.hexdigest())


def write(out: Path, folder: Path, manifest: Mapping[str, Any], members: Sequence[Member], secret: bytes | None) -> str:
    """Write the members that lie in ``folder`` to ``out``, whole or not at all; return the manifest's hash.

    Raises:
        OSError: ``out`` is as it was.
    """
    text = json.dumps({**manifest, "members": [asdict(one) for one in members]}, indent=1, sort_keys=True).encode()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write_tar(file, folder, text, members, secret)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(out.parent)
    return hashlib.sha256(text).hexdigest()


def _write_tar(file: IO[bytes], folder: Path, text: bytes, members: Sequence[Member], secret: bytes | None) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, raw in ((MANIFEST, text), (SEAL, _seal(text, secret))):
            tar.addfile(_header(name, len(raw)), BytesIO(raw))
        for member in members:
            with (folder / member.name).open("rb") as content:
                tar.addfile(_header(member.name, member.bytes), content)


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, PRIVATE_MODE
    return header


def _seal(text: bytes, secret: bytes | None) -> bytes:
    seal: dict[str, str] = {"sha256": hashlib.sha256(text).hexdigest()}
    if secret is not None:
        salt = secrets.token_bytes(SALT_BYTES)
        seal |= {"salt": salt.hex(), "mac": _mac(text, secret, salt)}
    return json.dumps(seal, sort_keys=True).encode()


def _mac(text: bytes, secret: bytes, salt: bytes) -> str:
    key = hashlib.scrypt(secret, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=1, maxmem=SCRYPT_MEMORY, dklen=32)
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def unpack(path: Path, folder: Path, secret: bytes | None) -> Opened:
    """Check the whole file and write its members into ``folder``, each for its owner alone.

    Raises:
        ArchiveDamaged: the first thing that does not hold. OSError: the file or the folder cannot be used.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            return _unpack(tar, folder, secret)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveDamaged(f"{path}: not a whole backup: {error}") from None


def _unpack(tar: tarfile.TarFile, folder: Path, secret: bytes | None) -> Opened:
    parts = iter(tar)
    text = _small(tar, parts, MANIFEST)
    authentic = _judge(text, _small(tar, parts, SEAL), secret)
    manifest = _object(text, MANIFEST)
    members = _members(manifest)
    for member in members:
        with _next(tar, parts, member.name) as content:
            _copy(content, member, folder / member.name)
    if next(parts, None) is not None:
        raise ArchiveDamaged("it holds more than its manifest names")
    return Opened(manifest, hashlib.sha256(text).hexdigest(), members, authentic)


def _small(tar: tarfile.TarFile, parts: Iterator[tarfile.TarInfo], name: str) -> bytes:
    with _next(tar, parts, name) as content:
        return content.read(SMALL_BYTES)


def _next(tar: tarfile.TarFile, parts: Iterator[tarfile.TarInfo], name: str) -> IO[bytes]:
    found = next(parts, None)
    if found is None or found.name != name or not found.isreg():
        raise ArchiveDamaged(f"{name}: expected here, found {'the end' if found is None else repr(found.name)}")
    content = tar.extractfile(found)
    if content is None:
        raise ArchiveDamaged(f"{name}: not a plain file")
    return content


def _judge(text: bytes, raw: bytes, secret: bytes | None) -> bool:
    """Hold the manifest against its seal; say whether a passphrase proved it."""
    seal = _object(raw, SEAL)
    if seal.get("sha256") != hashlib.sha256(text).hexdigest():
        raise ArchiveDamaged(f"{MANIFEST}: its hash is not the one of {SEAL}")
    if secret is None:
        return False
    if "mac" not in seal:
        raise ArchiveDamaged(f"{SEAL}: made without a passphrase, or its proof was taken away")
    try:
        salt = bytes.fromhex(str(seal["salt"]))
    except (KeyError, ValueError):
        raise ArchiveDamaged(f"{SEAL}: not as it was made") from None
    if not hmac.compare_digest(str(seal["mac"]).encode(), _mac(text, secret, salt).encode()):
        raise ArchiveDamaged("wrong passphrase, or the manifest was changed")
    return True


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        raise ArchiveDamaged(f"{name}: not JSON") from None
    if not isinstance(found, dict):
        raise ArchiveDamaged(f"{name}: not an object")
    return found


def _members(manifest: Mapping[str, Any]) -> tuple[Member, ...]:
    if manifest.get("format") != FORMAT:
        raise ArchiveDamaged(f"format {manifest.get('format')!r}: this version reads {FORMAT}")
    try:
        members = tuple(
            Member(str(one["name"]), str(one["what"]), int(one["bytes"]), str(one["sha256"]))
            for one in manifest["members"]
        )
    except (KeyError, TypeError, ValueError):
        raise ArchiveDamaged(f"{MANIFEST}: its list of members cannot be read") from None
    for member in members:
        _lawful(member.name)
    return members


def _lawful(name: str) -> None:
    """Refuse a name that leads out of the folder, whoever wrote the manifest."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != name:
        raise ArchiveDamaged(f"{name!r}: not a name inside a folder")


def _copy(content: IO[bytes], member: Member, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in iter(lambda: content.read(CHUNK_BYTES), b""):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if (size, digest.hexdigest()) != (member.bytes, member.sha256):
        raise ArchiveDamaged(f"{member.name}: {size} bytes whose hash is not the one of the manifest")
