"""A release repository made for a test: every key in memory, every role made again with one call."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Root, TargetFile

from fleetward_broker.signers import make_key
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_server.releases import making
from fleetward_server.releases.making import RoleKeys, public_of

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
BINS = [f"bin-{number:02x}" for number in range(256)]


def target(path: str, *, content: bytes = b"firmware", **custom: object) -> TargetFile:
    said = {"name": "firmware", "counter": 7, "version": "1.4.2", **custom}
    digest = hashlib.sha256(content).hexdigest()
    return TargetFile(len(content), {"sha256": digest}, path, {"custom": said})


@dataclass
class Keyring:
    """Ed25519 keys of every role."""

    root: list[PrivateKey] = field(default_factory=lambda: [make_key(Alg.EDDSA) for _ in range(3)])
    release: PrivateKey = field(default_factory=lambda: make_key(Alg.EDDSA))
    snapshot: PrivateKey = field(default_factory=lambda: make_key(Alg.EDDSA))
    timestamp: PrivateKey = field(default_factory=lambda: make_key(Alg.EDDSA))
    threshold: int = 2

    def roles(self) -> RoleKeys:
        named = {"root": self.root, "targets": [self.release], "snapshot": [self.snapshot]}
        named["timestamp"] = [self.timestamp]
        publics = {role: [public_of(key.public_key()) for key in keys] for role, keys in named.items()}
        return RoleKeys(publics, self.threshold)

    def new_root(self, version: int = 1) -> Root:
        return making.root(version, self.roles(), NOW + 365 * DAY)


@dataclass
class Repository:
    """Files by name, as they stand on the wire."""

    keys: Keyring = field(default_factory=Keyring)
    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        self.files["1.root"] = making.signed(self.keys.new_root(), self.keys.root[:2])
        targets = making.targets(1, public_of(self.keys.release.public_key()), NOW + 90 * DAY)
        self.put("targets", 1, making.signed(targets, [self.keys.release]))
        for role in BINS:
            self.put(role, 1, making.signed(making.one_bin(1, {}, NOW + 90 * DAY), [self.keys.release]))
        self.publish()

    def put(self, role: str, version: int, raw: bytes) -> None:
        self.files[f"{version}.{role}"] = raw
        self.versions[role] = version

    def release(self, *targets: TargetFile) -> None:
        """Put each of these into its bin, alone there."""
        for one in targets:
            role = f"bin-{hashlib.sha256(one.path.encode()).hexdigest()[:2]}"
            version = self.versions[role] + 1
            made = making.one_bin(version, {one.path: one}, NOW + 90 * DAY)
            self.put(role, version, making.signed(made, [self.keys.release]))
        self.publish()

    def publish(self) -> None:
        """Make the two online roles anew."""
        self.number += 1
        made = making.snapshot(self.number, self.versions, NOW + 7 * DAY)
        raw = self.files[f"{self.number}.snapshot"] = making.signed(made, [self.keys.snapshot])
        stamp = making.timestamp(self.number, self.number, raw, NOW + DAY)
        self.files["timestamp"] = making.signed(stamp, [self.keys.timestamp])

    def write(self, folder: Path) -> Path:
        """Put it below a provider's folder."""
        metadata = folder / "releases" / "metadata"
        metadata.mkdir(parents=True, exist_ok=True)
        for name, raw in self.files.items():
            (metadata / f"{name}.json").write_bytes(raw)
        return metadata
