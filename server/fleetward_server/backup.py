"""A backup: everything that another host needs to go on as this provider, in one file, made while it serves.

In it: the register at one moment, the configuration, certificates and CRLs, our client id, and keys that are files,
under a passphrase; what the release repository says. Not in it: its bytes, which lie in a folder to copy as it is; keys
in a token (their URIs are); the broker's store: devices keep every report until
the server's own signed ``ack``, and the server sends again whatever a device lacks. Source: S5, S6; restore.py.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from fleetward_broker.durable import write_private
from fleetward_broker.pkcs11_uri import SCHEME
from fleetward_broker.signers import file_of
from fleetward_server import archive, client_id
from fleetward_server.archive import ArchiveDamaged, Member, Opened, member_of
from fleetward_server.config import FILE, Config
from fleetward_server.lines import alone, mend
from fleetward_server.locks import CHANGE_S
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases.online import still
from fleetward_server.releases.places import kept
from fleetward_server.store.snapshot import Look, copy_database, look_through

DATABASE = "server.db"
SECRET_LEAST = 12
_MARK = b"PRIVATE KEY"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was written. left_out: key files that are not in it.

    schema_is_ours: not so before an upgrade has migrated the register, which is a good moment for a backup.
    """

    manifest_hash: str
    manifest: dict[str, Any]
    members: tuple[Member, ...]
    left_out: tuple[str, ...]
    schema_is_ours: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What looking through a backup found. flaws: what does not hold; none: it can be restored."""

    opened: Opened | None
    look: Look
    flaws: tuple[str, ...]


def read_secret(path: Path) -> bytes:
    """Read a passphrase from its file, which is its owner's alone.

    Raises:
        OperatorProblem: ``invalid``.
    """
    try:
        mode, raw = path.stat().st_mode, path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise OperatorProblem(Kind.INVALID, f"{path}: readable by others; run: chmod 600 {path}")
    if len(raw) < SECRET_LEAST:
        raise OperatorProblem(Kind.INVALID, f"{path}: a passphrase of {len(raw)} bytes: at least {SECRET_LEAST}")
    return raw


def create(config: Config, out: Path, secret: bytes | None, now: datetime, *, without_keys: bool) -> Made:
    """Write a backup of the provider to the new file ``out``, whether or not it serves.

    Raises:
        OperatorProblem: ``conflict``: ``out`` is there. ``held``: key files and neither a passphrase nor leave to do
            without. ``invalid``: a key cannot be read. StoreProblem, OSError: nothing was written.
    """
    if out.exists():
        raise OperatorProblem(Kind.CONFLICT, f"{out}: already there; nothing was changed")
    keys = sorted(path for path in _own_files(config) if _MARK in path.read_bytes())
    if keys and secret is None and not without_keys:
        raise OperatorProblem(
            Kind.HELD, f"{len(keys)} keys are files: give --passphrase-file, or leave them out with --without-keys"
        )
    left_out = {str(path.relative_to(config.folder)) for path in keys} if without_keys else set()
    with still(config.folder), tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        work = Path(name)
        members = tuple(sorted(_members(config, work, secret, left_out), key=lambda one: one.name))
        look = look_through(work / DATABASE)
        if look.flaws:
            raise OperatorProblem(Kind.UNVERIFIED, f"{config.store_path}: {look.flaws[0]}; nothing was written")
        manifest = _manifest(config, look, members, now)
        manifest_hash = archive.write(out, work, manifest, members, secret)
    return Made(manifest_hash, manifest, members, tuple(sorted(left_out)), look.current)


def _own_files(config: Config) -> Iterator[Path]:
    for path in sorted(config.pki.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield path
    yield from kept(config.folder)


def _members(config: Config, work: Path, secret: bytes | None, left_out: set[str]) -> Iterator[Member]:
    copy_database(config.store_path, work / DATABASE)
    yield member_of(work / DATABASE, DATABASE, "database")
    # A key and its certificate are two files, and what is in office stands in a third: read between two of them they
    # would not fit, where nothing is left to mend them by.
    with alone(config, CHANGE_S):
        mend(config)
        yield from _files(config, work, secret, left_out)


def _files(config: Config, work: Path, secret: bytes | None, left_out: set[str]) -> Iterator[Member]:
    for name, what in ((FILE, "configuration"), (client_id.FILE, "client-id")):
        if (config.folder / name).exists():
            yield _put(work, name, what, (config.folder / name).read_bytes())
    for path in _own_files(config):
        name, raw = str(path.relative_to(config.folder)), path.read_bytes()
        if _MARK not in raw:
            yield _put(work, name, "certificate" if path.is_relative_to(config.pki) else "release", raw)
        elif name not in left_out and secret is not None:
            yield _put(work, name, "key", _locked(path, raw, secret))


def _put(work: Path, name: str, what: str, raw: bytes) -> Member:
    target = work / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(target, raw)
    return member_of(target, name, what)


def _locked(path: Path, raw: bytes, secret: bytes) -> bytes:
    """S6: a key leaves the folder only under the passphrase."""
    try:
        key = serialization.load_pem_private_key(raw, None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(secret),
        )
    except (ValueError, TypeError):
        raise OperatorProblem(Kind.INVALID, f"{path}: not an unencrypted PEM key; nothing was written") from None


def unlocked(path: Path, secret: bytes) -> bytes:
    """Return a member's key as the provider's folder keeps it.

    Raises:
        ArchiveDamaged: another passphrase, or no key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), secret)
    except (ValueError, TypeError):
        raise ArchiveDamaged(f"{path.name}: does not open with this passphrase") from None
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _manifest(config: Config, look: Look, members: tuple[Member, ...], now: datetime) -> dict[str, Any]:
    provider = config.provider
    return {
        "format": archive.FORMAT,
        "fleetward": _own_version(),
        "created": now.isoformat(timespec="milliseconds"),
        "provider": {"name": provider.name, "id": provider.id, "environment": provider.environment},
        "database": {"revision": look.revision, "devices": look.devices},
        "audit": {"rows": look.audit_rows, "head": look.audit_head},
        "keys": list(_whereabouts(config, {one.name for one in members if one.what == "key"})),
    }


def _whereabouts(config: Config, taken: set[str]) -> Iterator[dict[str, str]]:
    """Say of each key of ``[keys]`` where it is: here, in its token, or not here."""
    in_office = {name.replace("-", "_"): uri for name, uri in config.keys.by_name().items()}
    for name, uri in (in_office | {f"former {stem}": uri for stem, uri in config.keys.former.items()}).items():
        if uri.startswith(SCHEME):
            yield {"key": name, "where": "token", "uri": uri}
            continue
        path = file_of(uri, config.folder)
        inside = path.is_relative_to(config.folder) and str(path.relative_to(config.folder)) in taken
        yield {"key": name, "where": "here" if inside else "not here", "uri": uri}


def _own_version() -> str:
    try:
        return version("fleetward")
    except PackageNotFoundError:
        return "unknown"


def verify(path: Path, secret: bytes | None) -> Verdict:
    """Look through a backup: every hash, every page of the database, every link of the audit, every key.

    Raises:
        OSError: there is no room to look, or no such file.
    """
    with tempfile.TemporaryDirectory(prefix="fleetward-") as name:
        return look_into(path, Path(name), secret)


def look_into(path: Path, folder: Path, secret: bytes | None) -> Verdict:
    """Unpack a backup into ``folder`` and look through it; keys stay locked."""
    try:
        opened = archive.unpack(path, folder, secret)
        _complete(opened)
        if secret is not None:
            for member in opened.members:
                if member.what == "key":
                    unlocked(folder / member.name, secret)
    except ArchiveDamaged as damaged:
        return Verdict(None, Look(), (str(damaged),))
    look = look_through(folder / DATABASE)
    return Verdict(opened, look, (*look.flaws, *_differences(opened, look)))


def _complete(opened: Opened) -> None:
    for name in (DATABASE, FILE):
        if name not in {member.name for member in opened.members}:
            raise ArchiveDamaged(f"{name}: missing")


def _differences(opened: Opened, look: Look) -> Iterator[str]:
    """The manifest says what the database held; the audit's head is what a rewritten book cannot match."""
    found: dict[str, object] = {
        "audit": {"rows": look.audit_rows, "head": look.audit_head},
        "database": {"revision": look.revision, "devices": look.devices},
    }
    for name, value in found.items():
        if opened.manifest.get(name) != value:
            yield f"{name}: {value}, the manifest says {opened.manifest.get(name)}"


def contents(members: tuple[Member, ...]) -> list[dict[str, Any]]:
    """Return the members for a person."""
    return [asdict(member) for member in members]
