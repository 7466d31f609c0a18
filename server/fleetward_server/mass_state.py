"""What is kept of an act on many devices: what, on whom, and what became of each, so that it goes on after a break.

Whom it means is fixed when it begins. Source: operations.py "Masses".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from fleetward_schemas.topics import DeviceId


class Action(StrEnum):
    """What can be done to many devices at once."""

    TAG = "tag"
    REVOKE = "revoke"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    REINSTATE = "reinstate"
    COMMAND = "command"
    ASSIGN_UPGRADE = "assign-upgrade"
    CANCEL_UPGRADE = "cancel-upgrade"


class Outcome(StrEnum):
    """What became of one device's part. ``unchanged``: it was so before; ``failed``: it could not be done."""

    DONE = "done"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MassWish:
    """What is to be done to many. params: what the action needs to know, as JSON has it. filter: as written."""

    action: Action
    params: Mapping[str, Any]
    filter: str
    reason: str


@dataclass(frozen=True, slots=True)
class MassAct:
    """One act. params: JSON text, what the action needs to know. filter: as the operator wrote it.

    finished_at: None until every device has its outcome and the broker knows what it must.
    """

    id: str
    action: Action
    params: str
    filter: str
    actor: str
    reason: str
    created_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One device of an act. outcome: None while it waits. detail: why it failed, or the command's id."""

    device_id: DeviceId
    outcome: Outcome | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """An act in numbers."""

    done: int = 0
    unchanged: int = 0
    failed: int = 0
    left: int = 0

    @property
    def total(self) -> int:
        """How many devices it means."""
        return self.done + self.unchanged + self.failed + self.left

    def settled(self, targets: Sequence[Target]) -> "Tally":
        """Return the numbers after these were done."""
        now = Counter(target.outcome for target in targets)
        return Tally(
            self.done + now[Outcome.DONE],
            self.unchanged + now[Outcome.UNCHANGED],
            self.failed + now[Outcome.FAILED],
            self.left - len(targets),
        )
