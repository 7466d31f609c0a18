"""What each device shall run and what became of it: the values, and the changes a turn may make to them.

Source: S7, C8; wire, section "Upgrades" 4 to 8.
"""

from dataclasses import dataclass
from datetime import datetime

from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Why


@dataclass(frozen=True, slots=True)
class Wanted:
    """One piece of software that an assignment names. version: for people; counter: its order. sha256: base64url."""

    name: str
    target: str
    counter: int
    version: str
    sha256: str
    length: int
    url: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that one device shall run. version: milliseconds of its making, see ``upgrade.next_version``.

    window: when installing may begin, None: at any time. told_at: when it was last sent, None: never yet.
    seen: the device told of its progress, so that it has it. A device has one that counts; those before are history.
    """

    device_id: DeviceId
    version: int
    wanted: tuple[Wanted, ...]
    actor: str
    reason: str
    created_at: datetime
    window: tuple[datetime, datetime] | None = None
    told_at: datetime | None = None
    seen: bool = False

    def of(self, name: str) -> Wanted | None:
        """Return what it wants for a name."""
        return next((one for one in self.wanted if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a device said that it runs for good; its counter never falls."""

    counter: int
    version: str
    sha256: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Upgrade:
    """How far one piece of software got on one device, by its own words.

    assignment, word: of the latest word, by the assignment's version and then by the report's id. since: of that phase.
    """

    device_id: DeviceId
    name: str
    phase: Phase
    why: Why | None
    attempt: int
    since: datetime
    assignment: int
    word: str
    committed: Committed | None = None


@dataclass(frozen=True, slots=True)
class PutAssignment:
    """Give a device another assignment; it is sent at once where the device is there."""

    assignment: Assignment
    send_at: datetime | None


@dataclass(frozen=True, slots=True)
class AssignmentSent:
    """It was sent at ``at``, None: it was not. again_at: send it again then, None: when the device comes again."""

    device_id: DeviceId
    version: int
    at: datetime | None
    again_at: datetime | None


@dataclass(frozen=True, slots=True)
class AssignmentWanted:
    """A device came online: an assignment is sent again that it never spoke of, or that is not at its end."""

    device_id: DeviceId
    at: datetime


@dataclass(frozen=True, slots=True)
class TookAssignment:
    """A device spoke of an assignment, known or not. behind: it is newer than the one that counts here."""

    device_id: DeviceId
    version: int
    at: datetime
    behind: bool


@dataclass(frozen=True, slots=True)
class PutUpgrade:
    """Insert or replace how far one piece of software got."""

    upgrade: Upgrade


UpgradeChange = PutAssignment | AssignmentSent | AssignmentWanted | TookAssignment | PutUpgrade
