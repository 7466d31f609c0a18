"""Each role's metadata made and signed, by python-tuf and with whatever key: a file's or a token's.

RSA keys sign PKCS#1 v1.5 with SHA-256, which every token can; Ed25519 keys sign as they do. Source: TUF 1.0 section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Delegations,
    Key,
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

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.jws import PrivateKey, PublicKey
from fleetward_schemas.upgrade import BIN_BITS, BIN_PREFIX, ROLES

RSA_SCHEME = "rsa-pkcs1v15-sha256"
T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
_COMPACT = JSONSerializer(compact=True)


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who may sign each of ``ROLES``, and how many of them must. threshold: of root; of the others one is enough."""

    keys: Mapping[str, Sequence[Key]]
    threshold: int


def public_of(key: PublicKey) -> SSlibKey:
    """Return a public key as TUF has it."""
    return SSlibKey.from_crypto(key, scheme=RSA_SCHEME if isinstance(key, rsa.RSAPublicKey) else None)


def signed(what: T, keys: Sequence[PrivateKey]) -> bytes:
    """Return the file: ``what`` signed by each of these keys.

    Raises:
        KeyUnavailable: a key cannot sign now.
    """
    found = Metadata(what)
    for key in keys:
        public = public_of(key.public_key())
        try:
            found.sign(CryptoSigner(key, public), append=True)
        except UnsignedMetadataError as error:
            if isinstance(error.__cause__, KeyUnavailable):
                raise error.__cause__ from None
            raise KeyUnavailable(f"the key {public.keyid[:16]} does not sign: {error}") from None
    return found.to_bytes(_COMPACT)


def root(version: int, roles: RoleKeys, expires: datetime) -> Root:
    """Return a root that names every role's keys."""
    made = Root(version=version, expires=expires, consistent_snapshot=True)
    for role in ROLES:
        for key in roles.keys[role]:
            made.add_key(key, role)
    made.roles["root"].threshold = roles.threshold
    return made


def targets(version: int, release: Key, expires: datetime) -> Targets:
    """Return the role that holds no target and delegates to the bins, all signed by the release key."""
    bins = SuccinctRoles([release.keyid], 1, BIN_BITS, BIN_PREFIX)
    return Targets(
        version=version, expires=expires, delegations=Delegations({release.keyid: release}, succinct_roles=bins)
    )


def one_bin(version: int, held: Mapping[str, TargetFile], expires: datetime) -> Targets:
    """Return a bin with these targets, by path."""
    return Targets(version=version, expires=expires, targets=dict(held))


def snapshot(version: int, versions: Mapping[str, int], expires: datetime) -> Snapshot:
    """Return the role that names the version of targets and of each bin."""
    meta = {f"{role}.json": MetaFile(number) for role, number in versions.items()}
    return Snapshot(version=version, expires=expires, meta=meta)


def timestamp(version: int, number: int, of_snapshot: bytes, expires: datetime) -> Timestamp:
    """Return the role that names a snapshot. number: its version; of_snapshot: its bytes."""
    named = MetaFile(number, len(of_snapshot), {"sha256": sha256(of_snapshot).hexdigest()})
    return Timestamp(version=version, expires=expires, snapshot_meta=named)
