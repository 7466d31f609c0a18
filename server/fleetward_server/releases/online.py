"""The two roles that are online: what is newest, said anew before it ends, by keys that can ship nothing by themselves.

A snapshot names what the offline keys signed and cannot make it; a timestamp names a snapshot. A thief of both keys can
hold devices back, until the offline files end, and no more. Source: S7; TUF 1.0 section 6.1 and 5.4.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetward_schemas.jws import PrivateKey
from fleetward_server.config import Config
from fleetward_server.locks import COPY_S, held
from fleetward_server.releases import making
from fleetward_server.releases.files import METADATA, TIMESTAMP, Offline, Whole, open_set
from fleetward_server.releases.keys import keep, open_online
from fleetward_server.releases.places import home
from fleetward_server.releases.rules import HALF, SNAPSHOT_LIFE, TIMESTAMP_LIFE, end
from fleetward_server.releases.shelf import no_repository, open_repository

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The versions in force of the two online roles; 0 before the first."""

    snapshot: int = 0
    timestamp: int = 0


def numbers(whole: Whole) -> Numbers:
    """Return the versions of a set."""
    return Numbers(whole.snapshot.signed.version, whole.timestamp.signed.version)


def both(offline: Offline, before: Numbers, keys: Mapping[str, PrivateKey], now: datetime) -> dict[str, bytes]:
    """Return a snapshot of what the offline keys say, and the timestamp that names it. Raises: KeyUnavailable."""
    number = after(before.snapshot, now)
    made = making.snapshot(number, offline.versions(), end(now, SNAPSHOT_LIFE))
    raw = making.signed(made, [keys["snapshot"]])
    return {f"{number}.snapshot": raw} | stamped(number, raw, before, keys, now)


def stamped(
    number: int, of_snapshot: bytes, before: Numbers, keys: Mapping[str, PrivateKey], now: datetime
) -> dict[str, bytes]:
    """Return a timestamp that names this snapshot. Raises: KeyUnavailable."""
    made = making.timestamp(after(before.timestamp, now), number, of_snapshot, end(now, TIMESTAMP_LIFE))
    return {TIMESTAMP: making.signed(made, [keys["timestamp"]])}


def after(version: int, now: datetime) -> int:
    """Return the version that follows: seconds since 1970, so that a provider made again from a backup goes on.

    Devices have seen what the lost server said last; counting from the backup's number would be going back.
    """
    return max(version + 1, int(now.timestamp()))


def due(whole: Whole, now: datetime) -> str:
    """Return which role has to be said anew: ``snapshot`` with its timestamp, ``timestamp``, or none."""
    lives = {"snapshot": SNAPSHOT_LIFE, TIMESTAMP: TIMESTAMP_LIFE}
    ends = whole.ends()
    return next((role for role, life in lives.items() if ends[role] - now < life / HALF), "")


def renew(config: Config, now: datetime) -> bool:
    """Say anew what ends soon; False where nothing did.

    Raises:
        NoRepository, Unverified, KeyUnavailable, OSError: all is as it was. Busy: another process is at it.
    """
    if not due(open_repository(config.folder), now):
        return False
    # The server's worker asks: it waits for nobody who copies for minutes, since all devices would wait with it.
    with alone(config.folder, 0):
        whole = open_repository(config.folder)
        role, before = due(whole, now), numbers(whole)
        if not role:
            return False
        keys = open_online(config)
        name = f"{before.snapshot}.snapshot"
        made = (
            both(whole.offline, before, keys, now)
            if role == "snapshot"
            else stamped(before.snapshot, whole.files[name], before, keys, now)
        )
        # By keys that the root does not name, nothing would be said that anybody believes.
        open_set({**whole.files, **made}.get, whole.files["1.root"])
        keep(home(config.folder) / METADATA, made)
        return True


@contextmanager
def still(folder: Path) -> Iterator[None]:
    """Have nothing change meanwhile, where there is a repository. Raises: OSError."""
    with alone(folder) if home(folder).exists() else nullcontext():
        yield


@contextmanager
def alone(folder: Path, within_s: float = COPY_S) -> Iterator[None]:
    """Have no other process change the repository meanwhile; ends with the process.

    Raises:
        NoRepository, OSError. Busy: another does, or copies it, for longer than ``within_s``.
    """
    if not home(folder).exists():
        raise no_repository(folder)
    with held(home(folder) / LOCK, within_s, "changes or copies the repository"):
        yield
