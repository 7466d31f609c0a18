"""A set of the repository's files, read and verified as a device does it: roots in a row, then what each names.

Bytes in, verified objects or a problem out. Files go by the names that the wire has for them: TUF's without ``.json``.
Nothing here judges expiry: who publishes does (``publishing``), and who keeps the repository is told (``ends``).
Source: TUF 1.0 section 5.3 to 5.6; TAP 15; wire, section "Upgrades".
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleetward_schemas.upgrade import BIN_BITS, BIN_PREFIX
from fleetward_server.problem import Kind, OperatorProblem

FOLDER, METADATA, TARGETS = "releases", "metadata", "targets"
TIMESTAMP = "timestamp"
MOST_BYTES = 20 * 1024
"""Of one file: sealed for the wire it is nearly twice as long, and stays below the envelope's 48 KiB."""
MOST_ROOTS = 256
"""Roots in a row that python-tuf's client follows."""

Read = Callable[[str], bytes | None]
"""The bytes of a file by its name on the wire (``3.root``, ``timestamp``), None where it is absent."""
T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


class NoRepository(OperatorProblem):
    """This provider has no release repository."""


class Unverified(OperatorProblem):
    """A set does not hold; the message names the file and why."""

    def __init__(self, message: str) -> None:
        super().__init__(Kind.UNVERIFIED, message)


@dataclass(frozen=True, slots=True)
class Offline:
    """What the offline keys say. roots: the first and all after it. bins: by role."""

    roots: tuple[Metadata[Root], ...]
    targets: Metadata[Targets]
    bins: Mapping[str, Metadata[Targets]]

    @property
    def root(self) -> Root:
        """The newest root."""
        return self.roots[-1].signed

    def bin_of(self, path: str) -> str:
        """Return the role that a target path belongs to."""
        return str(_succinct(self.targets.signed).get_role_for_target(path))

    def versions(self) -> dict[str, int]:
        """Return the version of targets and of each bin."""
        return {"targets": self.targets.signed.version} | {role: one.signed.version for role, one in self.bins.items()}


@dataclass(frozen=True, slots=True)
class Whole:
    """A consistent set. files: their exact bytes by name, in the order in which they are published."""

    offline: Offline
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    files: Mapping[str, bytes]

    def ends(self) -> dict[str, datetime]:
        """Return when each role ends, bins by their own names."""
        found: dict[str, Signed] = {"root": self.offline.root, "targets": self.offline.targets.signed}
        found |= {role: one.signed for role, one in self.offline.bins.items()}
        found |= {"snapshot": self.snapshot.signed, TIMESTAMP: self.timestamp.signed}
        return {role: one.expires for role, one in found.items()}


def in_folder(folder: Path) -> Read:
    """Read a folder of metadata. Raises: OSError."""

    def read(name: str) -> bytes | None:
        path = folder / f"{name}.json"
        return path.read_bytes() if path.exists() else None

    return read


def newest(folder: Path, role: str) -> int:
    """Return the highest version of a role that a folder holds, 0 for none. Raises: OSError."""
    found = (path.name.removesuffix(f".{role}.json") for path in folder.glob(f"[1-9]*.{role}.json"))
    return max((int(one) for one in found if one.isdecimal()), default=0)


def parse(kind: type[T], raw: bytes, name: str) -> Metadata[T]:
    """Read one file.

    Raises:
        Unverified: too long, or not metadata of this kind.
    """
    if len(raw) > MOST_BYTES:
        raise Unverified(f"{name}: {len(raw)} bytes: at most {MOST_BYTES}")
    try:
        found = Metadata[T].from_bytes(raw)
    except DeserializationError as error:
        raise Unverified(f"{name}: {error}") from None
    if not isinstance(found.signed, kind):
        raise Unverified(f"{name}: a {found.signed.type}, not a {kind.__name__.lower()}")
    return found


def open_roots(read: Read, anchor: bytes) -> tuple[Metadata[Root], ...]:
    """Go from the root that is trusted to the newest: each is signed by the one before it and by itself.

    Raises:
        Unverified: one is not. OSError.
    """
    first = parse(Root, anchor, "root")
    _signed(first.signed, "root", first, f"{first.signed.version}.root")
    row = [first]
    while (raw := read(f"{row[-1].signed.version + 1}.root")) is not None:
        name = f"{row[-1].signed.version + 1}.root"
        found = parse(Root, raw, name)
        for judge in (row[-1].signed, found.signed):
            _signed(judge, "root", found, name)
        _version(found, row[-1].signed.version + 1, name)
        row.append(found)
        if len(row) > MOST_ROOTS:
            raise Unverified(f"{name}: more than {MOST_ROOTS} roots in a row")
    return tuple(row)


def open_offline(read: Read, roots: tuple[Metadata[Root], ...], versions: Mapping[str, int]) -> Offline:
    """Read targets and every bin at these versions.

    Raises:
        Unverified: one is missing, another version, or not signed by enough of its keys. OSError.
    """
    targets = _delegated(read, roots[-1].signed, "targets", versions)
    if targets.signed.targets:
        raise Unverified("targets: holds targets itself")
    roles = _succinct(targets.signed).get_roles()
    return Offline(roots, targets, {role: _delegated(read, targets.signed, role, versions) for role in roles})


def open_set(read: Read, anchor: bytes) -> Whole:
    """Read the set that ``timestamp`` names, from the root that is trusted on.

    Raises:
        Unverified: it does not hold. OSError.
    """
    roots = open_roots(read, anchor)
    root = roots[-1].signed
    timestamp = parse(Timestamp, _there(read, TIMESTAMP), TIMESTAMP)
    _signed(root, TIMESTAMP, timestamp, TIMESTAMP)
    number = timestamp.signed.snapshot_meta.version
    name = f"{number}.snapshot"
    raw = _there(read, name)
    _is_named(timestamp.signed, raw, name)
    snapshot = parse(Snapshot, raw, name)
    _signed(root, "snapshot", snapshot, name)
    _version(snapshot, number, name)
    versions = {role.removesuffix(".json"): meta.version for role, meta in snapshot.signed.meta.items()}
    offline = open_offline(read, roots, versions)
    names = [f"{one.signed.version}.root" for one in roots]
    names += [f"{versions[role]}.{role}" for role in (*offline.bins, "targets")] + [name, TIMESTAMP]
    return Whole(offline, snapshot, timestamp, {one: _there(read, one) for one in names})


def _delegated(read: Read, judge: Root | Targets, role: str, versions: Mapping[str, int]) -> Metadata[Targets]:
    if role not in versions:
        raise Unverified(f"{role}: named by no snapshot")
    name = f"{versions[role]}.{role}"
    found = parse(Targets, _there(read, name), name)
    _signed(judge, role, found, name)
    _version(found, versions[role], name)
    return found


def _succinct(targets: Targets) -> SuccinctRoles:
    roles = targets.delegations.succinct_roles if targets.delegations is not None else None
    if roles is None or (roles.bit_length, roles.name_prefix) != (BIN_BITS, BIN_PREFIX):
        raise Unverified(f"targets: delegates to other roles than {2**BIN_BITS} bins named {BIN_PREFIX}-")
    return roles


def _there(read: Read, name: str) -> bytes:
    raw = read(name)
    if raw is None:
        raise Unverified(f"{name}: absent")
    return raw


def _signed(judge: Root | Targets, role: str, found: Metadata[T], name: str) -> None:
    try:
        judge.verify_delegate(role, found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError) as error:
        raise Unverified(f"{name}: {error}") from None


def _is_named(timestamp: Timestamp, raw: bytes, name: str) -> None:
    try:
        timestamp.snapshot_meta.verify_length_and_hashes(raw)
    except RepositoryError as error:
        raise Unverified(f"{name}: not the one that timestamp names: {error}") from None


def _version(found: Metadata[T], wanted: int, name: str) -> None:
    if found.signed.version != wanted:
        raise Unverified(f"{name}: says version {found.signed.version}")


def targets_of(offline: Offline) -> Iterator[TargetFile]:
    """Yield every target."""
    for one in offline.bins.values():
        yield from one.signed.targets.values()
