"""A release repository in the hand of a test: it signs exactly what it is told to, also what nobody should."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from fleetward_schemas.strict import b64url
from fleetward_schemas.upgrade import BIN_BITS, BIN_PREFIX, ROLES, Hashes, Release

COMPACT = JSONSerializer(compact=True)
IMAGE = b"firmware, version two"


def target(image: bytes = IMAGE, **custom: object) -> TargetFile:
    """Return what stands of an image in ``targets``."""
    said = {"name": "firmware", "counter": 2, "version": "2.0"} | custom
    hashes = {"sha256": hashlib.sha256(image).hexdigest()}
    return TargetFile(len(image), hashes, "acme/fw-2.bin", {"custom": said})


def release(image: bytes = IMAGE, **changes: object) -> Release:
    """Return what the director says of an image."""
    said: dict[str, object] = {
        "name": "firmware",
        "target": "acme/fw-2.bin",
        "counter": 2,
        "hashes": Hashes(sha256=b64url(hashlib.sha256(image).digest())),
        "length": len(image),
        "url": "https://files.example/acme/fw-2.bin",
    }
    return Release.read(said | changes)


@dataclass
class Repository:
    """See the module. now: when it signs; files: by the wire's names. threshold: of root and targets."""

    now: datetime
    threshold: int = 1
    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    days: dict[str, int] = field(default_factory=lambda: {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1})

    def __post_init__(self) -> None:
        count = {"root": self.threshold, "targets": self.threshold}
        self.keys = {role: [new_key() for _ in range(count.get(role, 1))] for role in ROLES}
        self.rotate()
        self.first = self.files["1.root"]

    def expires(self, role: str) -> datetime:
        return (self.now + timedelta(days=self.days[role])).replace(microsecond=0)

    def rotate(self, signers: Iterable[CryptoSigner] = ()) -> None:
        """Publish another root, of the keys there are. signers: beside them, those of the root before."""
        version = self.versions["root"] = self.versions.get("root", 0) + 1
        root = Root(version=version, expires=self.expires("root"), consistent_snapshot=True)
        for role in ROLES:
            for key in self.keys[role]:
                root.add_key(key.public_key, role)
            root.roles[role].threshold = self.threshold if role in {"root", "targets"} else 1
        self.files[f"{version}.root"] = signed(root, [*self.keys["root"], *signers])

    def publish(self, *targets: TargetFile, version: int | None = None) -> None:
        """Publish targets, in a set that fits together; of the bins only those that tests read."""
        version = self.versions["set"] = version or self.versions.get("set", 0) + 1
        keys = self.keys["targets"]
        ids = [key.public_key.keyid for key in keys]
        succinct = SuccinctRoles(ids, self.threshold, BIN_BITS, BIN_PREFIX)
        top = Targets(version=version, expires=self.expires("targets"))
        top.delegations = Delegations({key.public_key.keyid: key.public_key for key in keys}, succinct_roles=succinct)
        metas = {"targets.json": MetaFile(version)} | {
            f"{name}.json": MetaFile(version) for name in succinct.get_roles()
        }
        held: dict[str, Targets] = {}
        for one in targets:
            name = succinct.get_role_for_target(one.path)
            held.setdefault(name, Targets(version=version, expires=self.expires("targets"))).targets[one.path] = one
        for path in ("acme/fw-2.bin", "acme/fw-3.bin"):
            empty = Targets(version=version, expires=self.expires("targets"))
            held.setdefault(succinct.get_role_for_target(path), empty)
        self.files[f"{version}.targets"] = signed(top, keys)
        for name, bin_ in held.items():
            self.files[f"{version}.{name}"] = signed(bin_, keys)
        self.seal(metas, version)

    def seal(self, metas: dict[str, MetaFile], version: int) -> None:
        """Publish snapshot and timestamp: the two that are online."""
        snapshot = Snapshot(version=version, expires=self.expires("snapshot"), meta=metas)
        self.files[f"{version}.snapshot"] = signed(snapshot, self.keys["snapshot"])
        stamp = Timestamp(version=version, expires=self.expires("timestamp"), snapshot_meta=MetaFile(version))
        self.files["timestamp"] = signed(stamp, self.keys["timestamp"])

    @property
    def bin(self) -> str:
        """The file that holds the target."""
        name = SuccinctRoles([], 1, BIN_BITS, BIN_PREFIX).get_role_for_target("acme/fw-2.bin")
        return f"{self.versions['set']}.{name}"


def new_key() -> CryptoSigner:
    """Make a key of a role."""
    return CryptoSigner.generate_ed25519()


def signed(role: Root | Targets | Snapshot | Timestamp, keys: Iterable[CryptoSigner]) -> bytes:
    """Sign one file with the keys given, whoever's they are."""
    made = Metadata(role)
    for key in keys:
        made.sign(key, append=True)
    return made.to_bytes(COMPACT)
