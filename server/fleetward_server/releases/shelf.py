"""The shelf: every released target with what it says of itself, read from the repository as it was verified.

What stands here exists for every device that reads the repository too; what it shall run is the director's to say.
Source: S7; wire, section "Upgrades" 3 and 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile

from fleetward_schemas.errors import Refused
from fleetward_schemas.strict import b64url
from fleetward_schemas.upgrade import Custom
from fleetward_server.config import Config
from fleetward_server.problem import Kind
from fleetward_server.releases import places
from fleetward_server.releases.files import (
    METADATA,
    TIMESTAMP,
    NoRepository,
    Read,
    Unverified,
    Whole,
    in_folder,
    open_set,
    targets_of,
)


@dataclass(frozen=True, slots=True)
class Target:
    """One released target. models: ``make/model`` of those it is for, None: of all. sha256: base64url, as on the wire.

    url: where its bytes are, empty while nothing serves them.
    """

    path: str
    name: str
    counter: int
    version: str
    models: tuple[str, ...] | None
    sha256: str
    length: int
    url: str

    def is_for(self, model: str) -> bool:
        """Say whether it is for a device of this ``make/model``."""
        return self.models is None or model in self.models


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is released, by path. whole: the set that says so."""

    whole: Whole
    targets: Mapping[str, Target]

    def newest(self, name: str, model: str) -> Target | None:
        """Return the target of the highest counter that replaces ``name`` on a device of this ``make/model``."""
        fitting = [one for one in self.targets.values() if one.name == name and one.is_for(model)]
        return max(fitting, key=lambda one: one.counter, default=None)


def open_shelf(config: Config) -> Shelf:
    """Read the provider's repository and verify it, signatures and versions, from its first root on.

    Raises:
        NoRepository: there is none. Unverified: it does not hold. OSError.
    """
    whole = open_repository(config.folder)
    where = places.read(config)
    return Shelf(whole, {one.path: _target(one, where) for one in targets_of(whole.offline)})


def open_repository(folder: Path) -> Whole:
    """Read and verify the set of a provider's folder. Raises: as ``open_shelf``."""
    read = in_folder(places.home(folder) / METADATA)
    anchor = read("1.root")
    if anchor is None:
        raise no_repository(folder)
    return in_force(read, anchor)


def in_force(read: Read, anchor: bytes) -> Whole:
    """Read and verify the set in force, whichever comes into force meanwhile. Raises: Unverified, OSError."""
    while True:
        before = read(TIMESTAMP)
        try:
            return open_set(read, anchor)
        except (Unverified, OSError):
            if read(TIMESTAMP) == before:
                raise
            # Another came into force, and what the former one named has gone.


def no_repository(folder: Path) -> NoRepository:
    """Return what to raise where there is none."""
    return NoRepository(Kind.NOT_FOUND, f"{folder}: no release repository; run: fleetward release init")


def _target(found: TargetFile, where: places.Where) -> Target:
    custom = custom_of(found)
    models = None if custom.models is None else tuple(custom.models)
    digest = b64url(bytes.fromhex(found.hashes["sha256"]))
    return Target(
        found.path, custom.name, custom.counter, custom.version, models, digest, found.length, where.url(found)
    )


def custom_of(found: TargetFile) -> Custom:
    """Return what a target says of itself.

    Raises:
        Unverified: not what a target must say, or no SHA-256.
    """
    if "sha256" not in found.hashes:
        raise Unverified(f"{found.path}: no sha256")
    try:
        return Custom.read(found.custom)
    except Refused as refusal:
        raise Unverified(f"{found.path}: {refusal.detail}") from None
