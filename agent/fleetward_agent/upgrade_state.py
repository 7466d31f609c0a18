"""What a device remembers of upgrades through anything, and what it knows of the one at work while the agent runs.

The counter committed for a name stands in two files, the state and the outbox's database; the higher counts, so that a
fall back to the state's backup lowers nothing. Source: C8; protocol section 5 "Releases".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleetward_agent.upgrade_effects import Needs
from fleetward_schemas.upgrade import UNDERWAY, Hashes, Phase, Release, Why


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One release of the assignment, and how far it got.

    sha256: base64url, as assigned. version: for people, known once both agreed. attempts: counted when installing is
    written down. fails: in a row, for the wait. tries: of rolling back, in vain. starts: of the agent within this
    phase. again_ms: trusted time before which nothing is tried again. agreed_ms: when both agreed on it last. needs,
    needed_in: what the new (or old) version waits for, and in which run of the agent that arose.
    """

    name: str
    target: str
    counter: int
    sha256: str
    length: int
    url: str
    phase: Phase = Phase.ASSIGNED
    why: Why | None = None
    version: str = ""
    attempts: int = 0
    fails: int = 0
    tries: int = 0
    starts: int = 0
    again_ms: int = 0
    agreed_ms: int = 0
    needs: Needs = Needs.NOTHING
    needed_in: str = ""

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What makes it the same upgrade: it keeps its state and its attempts."""
        return (self.name, self.target, self.counter, self.sha256)

    @property
    def underway(self) -> bool:
        """Whether the device's software is between two versions."""
        return self.phase in UNDERWAY

    @property
    def release(self) -> Release:
        """As the server assigned it."""
        return Release(
            name=self.name,
            target=self.target,
            counter=self.counter,
            hashes=Hashes(sha256=self.sha256),
            length=self.length,
            url=self.url,
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """What runs, and proved well. version: for people."""

    name: str
    counter: int
    sha256: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class RaiseFloor:
    """Change: the counter committed for a name, in the outbox's database too; a lower one changes nothing."""

    committed: Committed


@dataclass(frozen=True, slots=True)
class Software:
    """version: of the last assignment taken. from_ms, to_ms: its window; 0, 0: at any time.

    left: upgrades no longer assigned that were attempted; their attempts count when they are assigned again.
    waiting: a newer assignment as JSON, until nothing is between two versions any more.
    """

    version: int = 0
    from_ms: int = 0
    to_ms: int = 0
    upgrades: tuple[Upgrade, ...] = ()
    left: tuple[Upgrade, ...] = ()
    waiting: str = ""
    waiting_version: int = 0
    committed: tuple[Committed, ...] = ()

    def named(self, name: str) -> Upgrade | None:
        """Return the upgrade of a name."""
        return next((one for one in self.upgrades if one.name == name), None)

    @property
    def underway(self) -> Upgrade | None:
        """The one upgrade, if any, that only its own end leads out of."""
        return next((one for one in self.upgrades if one.underway), None)

    def floor(self, name: str) -> Committed:
        """Return what is committed for a name; counter 0 where nothing is."""
        return next((one for one in self.committed if one.name == name), Committed(name, 0, ""))


def highest(*sources: Iterable[Committed]) -> tuple[Committed, ...]:
    """Return of each name what has the highest counter. C8: whatever was lost, none is lowered."""
    found: dict[str, Committed] = {}
    for one in (one for source in sources for one in source):
        if one.name not in found or one.counter > found[one.name].counter:
            found[one.name] = one
    return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class Reading:
    """The repository as it is being read for one upgrade; bytes are held only until it is done.

    asked: by file, since when it is listened for. files: what came. absent: what did not. timestamp_us: when that
    came. odd_us: since when the set does not fit together. pause_us: not read before. rounds: how often it was judged.
    """

    identity: tuple[str, str, int, str]
    begun_us: int
    asked: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    timestamp_us: int | None = None
    odd_us: int | None = None
    pause_us: int = 0
    rounds: int = 0

    @property
    def missing(self) -> tuple[str, ...]:
        """Files that are listened for."""
        return tuple(one for one in self.asked if one not in self.files and one not in self.absent)


@dataclass(frozen=True, slots=True)
class Asked:
    """The one effect that is out. identity: of the upgrade it is for: what it brings counts for no other."""

    identity: tuple[str, str, int, str]
    phase: Phase


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of upgrades while the agent runs. woken: what was under way at its start was counted.

    checking_us: since when the new version is being checked; check_us: not before; checks: that went badly.
    settled: names whose committed version was told to stay. restarting: a restart was asked for.
    """

    woken: bool = False
    asked: Asked | None = None
    reading: Reading | None = None
    checking_us: int | None = None
    check_us: int = 0
    checks: int = 0
    rollback_us: int = 0
    settled: frozenset[str] = frozenset()
    restarting: bool = False
