"""Upgrades: what a device shall run, what exists, and how far it got; the life of one upgrade as a table.

The Update Framework's files, signed by keys that are offline, say what exists; the server's ``assignment`` says what
this device shall run. Both must agree on hash and length, so that neither a stolen server nor a stolen release key can
ship code to a device. Order is the integer ``counter``; version strings are for people.
Source: S7, C7, C8; protocol section 5 "Releases"; MOSIP's FTM criteria (forward only, at most ten failed attempts).
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from fleetward_schemas import moment
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.shapes import Digest, DownBody, Moment, Name, Unlawful, UpBody, Word

MAX_ATTEMPTS = 10
"""Failed attempts per target; then it is locked until an operator's ``unlock-upgrade``."""
MAX_RELEASES = 8
"""Names of software that one assignment may speak of."""
ROLES = ("root", "targets", "snapshot", "timestamp")
"""The repository's roles, as TUF names them; the first two are offline."""
BIN_BITS = 8
BIN_PREFIX = "bin"
"""``targets`` delegates to 256 hash bins, ``bin-00`` to ``bin-ff`` (TAP 15); a bin once listed can never be removed."""
MAX_TARGET_BYTES = 2**40
MAX_COUNTER = 2**52
AHEAD_MS = 30_000
"""How far ahead of ``latest`` an assignment's version may lie."""
ABSENT_S = 30
"""A file of the repository that has not come within this time is absent."""
INCONSISTENT_S = 60
"""For how long an inconsistent set is read again before the device says so."""

TargetPath = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z"),
]
"""A TUF target path: names of letters, digits, dot, dash and underscore, joined by slashes."""
Url = Annotated[str, Meta(min_length=9, max_length=1024, pattern=r"\Ahttps://[\x21-\x7e]+\Z")]
"""Where the bytes are; what they are is said by hash and length alone."""
MetadataFile = Annotated[str, Meta(min_length=4, max_length=48000, pattern=r"\A[A-Za-z0-9_-]+\Z")]


class Hashes(DownBody, frozen=True):
    """The target's hashes."""

    sha256: Digest


class Release(DownBody, frozen=True):
    """One piece of software to run. name: of what it replaces; counter: its order, as in the target's ``custom``."""

    name: Word
    target: TargetPath
    counter: Annotated[int, Meta(ge=1, le=MAX_COUNTER)]
    hashes: Hashes
    length: Annotated[int, Meta(ge=1, le=MAX_TARGET_BYTES)]
    url: Url


class Window(DownBody, frozen=True):
    """When installing may begin; outside of it a device may download."""

    from_: Moment = field(name="from")
    to: Moment

    def __post_init__(self) -> None:
        if moment.parse(self.from_) >= moment.parse(self.to):
            raise Unlawful("a window ends after it begins")


class Assignment(DownBody, frozen=True):
    """All that this device shall run; what it does not name stays as it is.

    version: milliseconds of its signing; it must exceed that of the last one taken.
    """

    version: Annotated[int, Meta(ge=1, lt=2**53)]
    releases: Annotated[list[Release], Meta(max_length=MAX_RELEASES)]
    window: Window | None = None

    def __post_init__(self) -> None:
        if len({one.name for one in self.releases}) != len(self.releases):
            raise Unlawful("a name stands twice")


class ReleaseFile(DownBody, frozen=True):
    """One file of the release repository, on the topic that names it. metadata: base64url of its exact bytes."""

    metadata: MetadataFile


class Custom(DownBody, frozen=True):
    """What a target says of itself beside hash and length. models: ``make/model`` of those it is for; None: of all."""

    name: Word
    counter: Annotated[int, Meta(ge=1, le=MAX_COUNTER)]
    version: Name
    models: Annotated[list[Name], Meta(min_length=1, max_length=64)] | None = None


class Phase(StrEnum):
    """Where an upgrade stands at the device; also what ``progress`` says."""

    ASSIGNED = "assigned"
    DOWNLOADING = "downloading"
    STAGED = "staged"
    INSTALLING = "installing"
    ACTIVATING = "activating"
    CHECKING = "checking"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling-back"
    FAILED = "failed"
    REFUSED = "refused"
    LOCKED = "locked"


class Why(StrEnum):
    """Why an upgrade was refused, failed or is locked: the whole list, free text is never sent."""

    NO_RELEASES = "no-releases"
    METADATA = "metadata"
    NOT_RELEASED = "not-released"
    MISMATCH = "mismatch"
    DOWNGRADE = "downgrade"
    NO_INSTALLER = "no-installer"
    DOWNLOAD = "download"
    WRONG_HASH = "wrong-hash"
    STORAGE = "storage"
    INSTALL = "install"
    ACTIVATE = "activate"
    UNHEALTHY = "unhealthy"
    INTERRUPTED = "interrupted"
    ROLLBACK = "rollback"
    ATTEMPTS = "attempts"


class Progress(UpBody, frozen=True, kw_only=True):
    """How far one upgrade got. reason: null unless refused, failed, rolling back or locked. attempt: 0 before any."""

    assignmentVersion: Annotated[int, Meta(ge=1, lt=2**53)]  # noqa: N815
    name: Word
    state: Phase
    reason: Why | None = None
    attempt: Annotated[int, Meta(ge=0, le=MAX_ATTEMPTS)]


class Event(StrEnum):
    """What moves an upgrade."""

    AGREED = "agreed"
    DISAGREED = "disagreed"
    FETCHED = "fetched"
    BEGIN = "begin"
    INSTALLED = "installed"
    ACTIVATED = "activated"
    HEALTHY = "healthy"
    BROKEN = "broken"
    ROLLED_BACK = "rolled-back"
    AGAIN = "again"
    EXHAUSTED = "exhausted"
    UNLOCK = "unlock"


NEXT: dict[Phase, dict[Event, Phase]] = {
    Phase.ASSIGNED: {Event.AGREED: Phase.DOWNLOADING, Event.DISAGREED: Phase.REFUSED, Event.BROKEN: Phase.FAILED},
    Phase.DOWNLOADING: {Event.FETCHED: Phase.STAGED, Event.BROKEN: Phase.FAILED},
    Phase.STAGED: {Event.BEGIN: Phase.INSTALLING, Event.BROKEN: Phase.FAILED},
    Phase.INSTALLING: {Event.INSTALLED: Phase.ACTIVATING, Event.BROKEN: Phase.ROLLING_BACK},
    Phase.ACTIVATING: {Event.ACTIVATED: Phase.CHECKING, Event.BROKEN: Phase.ROLLING_BACK},
    Phase.CHECKING: {Event.HEALTHY: Phase.COMMITTED, Event.BROKEN: Phase.ROLLING_BACK},
    Phase.ROLLING_BACK: {Event.ROLLED_BACK: Phase.FAILED},
    Phase.FAILED: {Event.AGAIN: Phase.ASSIGNED, Event.EXHAUSTED: Phase.LOCKED},
    Phase.LOCKED: {Event.UNLOCK: Phase.ASSIGNED},
    Phase.REFUSED: {Event.AGAIN: Phase.ASSIGNED},
    Phase.COMMITTED: {},
}
"""A newer target begins at ``assigned``, but never from within ``installing`` to ``rolling-back``."""
UNDERWAY = frozenset({Phase.INSTALLING, Phase.ACTIVATING, Phase.CHECKING, Phase.ROLLING_BACK})
"""The device's software is between two versions: only this upgrade's own end leads out."""


def advance(phase: Phase, event: Event) -> Phase:
    """Return the phase after ``event``.

    Raises:
        LocalMistake: the table has no such step; ask ``may_advance`` first.
    """
    try:
        return NEXT[phase][event]
    except KeyError:
        raise LocalMistake(f"{event} while {phase}") from None


def may_advance(phase: Phase, event: Event) -> bool:
    """Say whether the table has the step."""
    return event in NEXT[phase]


def may_install(counter: int, committed: int) -> bool:
    """Say whether a target's counter is above the one committed for its name. C8: no downgrade, none again."""
    return counter > committed
