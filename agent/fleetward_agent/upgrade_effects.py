"""What an upgrade asks of the world, and what comes back: slow work, done off the loop, one at a time for a device.

Each may be asked for again after a crash and must then come to the same end. ``why`` is None where it went well.
Source: deploy/decisions/0001 "Slow work".
"""

from dataclasses import dataclass
from enum import StrEnum

from fleetward_schemas.upgrade import Release, Why


class Needs(StrEnum):
    """What the new version needs to run. ``restart``: of this very agent; ``reboot``: of the host."""

    NOTHING = "nothing"
    RESTART = "restart"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """Effect: see whether what came from the repository proves ``release``. Answer: ``ReleaseRead``.

    Who does it asks ``release_reader.ReleaseReader``, off the loop; where nothing here installs ``release.name``, the
    answer is ``no-installer`` without reading anything.

    files: by topic's name, exact bytes. absent: those that did not come. latest_us: microseconds since 1970.
    """

    release: Release
    files: tuple[tuple[str, bytes], ...]
    absent: frozenset[str]
    latest_us: int


@dataclass(frozen=True, slots=True)
class ReleaseRead:
    """Exactly one of: wants, the files to be read next; why, a refusal; neither, they agree. again: read it anew.

    version: the target's, for people, where they agree.
    """

    name: str
    wants: tuple[str, ...] = ()
    why: Why | None = None
    again: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class FetchTarget:
    """Effect: have the target's bytes on disk, of the right length and hash. Answer: ``TargetFetched``."""

    release: Release


@dataclass(frozen=True, slots=True)
class TargetFetched:
    """They are there, or why not."""

    name: str
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class Install:
    """Effect: lay the new version beside the old one; what runs is not touched. Answer: ``Installed``."""

    release: Release
    attempt: int


@dataclass(frozen=True, slots=True)
class Installed:
    """It lies there, or why not."""

    name: str
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Effect: make the new version the one that runs. Answer: ``Activated``; not asked again where it is ``active``."""

    release: Release


@dataclass(frozen=True, slots=True)
class Activated:
    """It runs, or will after what it ``needs``."""

    name: str
    needs: Needs = Needs.NOTHING
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class CheckHealth:
    """Effect: ask the installer whether the new version runs and is well. Answer: ``HealthChecked``."""

    release: Release


@dataclass(frozen=True, slots=True)
class HealthChecked:
    """It is well, or why not."""

    name: str
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Effect: the new version stays; the one before may go. No answer: it is done again at each start."""

    release: Release


@dataclass(frozen=True, slots=True)
class RollBack:
    """Effect: make the version before run again. Answer: ``RolledBack``."""

    release: Release


@dataclass(frozen=True, slots=True)
class RolledBack:
    """It does, or will after what it ``needs``; why: it cannot."""

    name: str
    needs: Needs = Needs.NOTHING
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Effect: end this process so that it is started anew, or have the host reboot. Nothing comes back.

    Asked again in vain, the upgrade fails at its deadline.
    """

    needs: Needs


@dataclass(frozen=True, slots=True)
class SeeScanner:
    """Effect, done on the loop: see whether the scanner answers under the new version. Answer: ``ScannerSeen``."""

    name: str


@dataclass(frozen=True, slots=True)
class ScannerSeen:
    """Whether it does."""

    name: str
    answers: bool


UpgradeEffect = ReadRelease | FetchTarget | Install | Activate | CheckHealth | Settle | RollBack | Restart
UpgradeOutcome = ReleaseRead | TargetFetched | Installed | Activated | HealthChecked | RolledBack
