"""Whether the repository holds, when each of its roles ends, and the root that factories put in.

Source: TUF 1.0 section 5; schemas/README section 9.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleetward_server.config import Config
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases.files import METADATA, TARGETS, TIMESTAMP, targets_of
from fleetward_server.releases.places import home, read_elsewhere, stored_as
from fleetward_server.releases.request import measured
from fleetward_server.releases.rules import ROOT_LIFE
from fleetward_server.releases.shelf import custom_of, open_repository

OFFLINE_SOON = timedelta(days=30)
ONLINE = ("snapshot", TIMESTAMP)
DEVICE_FILE = "release-root.json"
"""What a device's folder calls the root that its factory put in."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What looking through it found. bytes: targets whose bytes are kept here and hold. flaws: what does not hold."""

    root: int
    targets: int
    bytes: int
    elsewhere: int
    flaws: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """When a role ends; of the bins, the first that does. signed_by: ``offline`` keys, or the server by itself."""

    role: str
    ends: datetime
    signed_by: str
    left: str
    soon: bool

    def __str__(self) -> str:
        return f"{self.role} until {self.ends:%Y-%m-%d}, signed by {self.signed_by}: {self.left}"


def prove(config: Config, now: datetime) -> Proof:
    """Look through everything.

    Raises:
        NoRepository. Unverified: its metadata does not hold. OSError.
    """
    whole = open_repository(config.folder)
    of, elsewhere = home(config.folder), read_elsewhere(home(config.folder))
    flaws = [f"{role}: ended at {ends:%Y-%m-%d %H:%M}Z" for role, ends in whole.ends().items() if ends <= now]
    good, found = 0, list(targets_of(whole.offline))
    for one in found:
        custom_of(one)
        if one.path in elsewhere:
            continue
        place = of / TARGETS / stored_as(one.path, one.hashes["sha256"])
        if not place.exists():
            flaws.append(f"{one.path}: its bytes are not here")
        elif measured(place) != (one.hashes["sha256"], one.length):
            flaws.append(f"{one.path}: other bytes than were signed")
        else:
            good += 1
    here = sum(one.path in elsewhere for one in found)
    return Proof(whole.offline.root.version, len(found), good, here, tuple(flaws))


def standings(folder: Path, now: datetime) -> tuple[Standing, ...]:
    """Tell when each role ends; bins together. Raises: as ``open_repository``."""
    ends = open_repository(folder).ends()
    told = {role: ends[role] for role in ("root", "targets", *ONLINE)}
    told["bins"] = min(end for role, end in ends.items() if role not in told)
    return tuple(_standing(role, end, now) for role, end in sorted(told.items(), key=lambda one: one[1]))


def _standing(role: str, ends: datetime, now: datetime) -> Standing:
    left = ends - now
    online = role in ONLINE
    # The server says its own two anew at half their life: what is over is all that there is to tell of them.
    soon = left <= (timedelta(0) if online else min(OFFLINE_SOON, ROOT_LIFE / 2))
    told = "ended" if left <= timedelta(0) else f"{left.days}d" if left.days else f"{left.seconds // 3600}h"
    return Standing(role, ends, "server" if online else "offline keys", told, soon)


def root_file(folder: Path, version: int = 0) -> tuple[int, bytes]:
    """Return a root's version and bytes. version: 0 for the newest.

    The newest is what a factory wants: a device never believes a key that was taken back before it was made.

    Raises:
        NoRepository. OperatorProblem: ``not-found``: no such root.
    """
    whole = open_repository(folder)
    number = version or whole.offline.root.version
    raw = whole.files.get(f"{number}.root")
    if raw is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"{number}.root: the newest is {whole.offline.root.version}")
    return number, raw


def has_repository(folder: Path) -> bool:
    """Say whether a provider has a release repository."""
    return (home(folder) / METADATA / "1.root.json").exists()
