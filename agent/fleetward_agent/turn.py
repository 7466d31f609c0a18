"""What a step gets and what it returns. Steps are pure: values in, a ``Turn`` out; device.py and run.py do the rest.

Order of a turn's effects: one commit of ``changes`` (and of the session's durable part), then the message is
acknowledged, then ``says`` leave and ``effects`` are done. Source: deploy/decisions/0001 "How data flows".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleetward_agent.instant import Instant
from fleetward_agent.ports import Sighting
from fleetward_agent.session import Session
from fleetward_agent.state import Pair
from fleetward_agent.upgrade_effects import ScannerSeen, SeeScanner, UpgradeEffect, UpgradeOutcome
from fleetward_agent.upgrade_state import RaiseFloor
from fleetward_schemas.certificates import Chain
from fleetward_schemas.commands import ResultReason, ResultState
from fleetward_schemas.envelope import Opened
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.shapes import Body


@dataclass(frozen=True, slots=True)
class AddReport:
    """A report into the outbox. priority: lower is sent first."""

    id: str
    kind: str
    body: str
    priority: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class GrowReport:
    """A new body for a report that was never sent."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class DropReports:
    """Reports that a signed ``ack`` named."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetAll:
    """Every report, command and window: the device is nobody any more."""


@dataclass(frozen=True, slots=True)
class PutCommand:
    """What became of a command, so far. params: its JSON."""

    command_id: str
    state: ResultState
    reason: ResultReason | None
    verb: str
    params: str
    expires_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class PutWindow:
    """Numbers taken from one signing key on one topic. expires: when its certificate does."""

    signer: str
    topic: str
    window: ReplayWindow
    expires: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """A durable counter, raised."""

    name: str
    by: int = 1


@dataclass(frozen=True, slots=True)
class Spent:
    """How much of a day's budget is spent. day: since 1970."""

    day: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Forget final commands older than 90 days, windows of certificates that ended, telemetry that grew too old."""

    now: datetime


Change = AddReport | GrowReport | DropReports | ForgetAll | PutCommand | PutWindow | Count | Spent | Sweep | RaiseFloor


@dataclass(frozen=True, slots=True)
class Say:
    """One message, sealed when it leaves; nothing keeps it."""

    kind: str
    id: str
    body: Body
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class SignFirst:
    """Effect: sign the digital ID that an enrolment speaks with. Answer: ``FirstSigned``."""


@dataclass(frozen=True, slots=True)
class MakeKeys:
    """Effect: make (or find) both keys and their certification requests. Answer: ``KeysMade``."""

    device_key: str
    transport_key: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Effect: give a certified pair its lasting digital ID. Answer: ``Adopted``."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Destroy:
    """Effect: destroy keys that nothing needs any more. Answer: ``Destroyed``."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """Effect: give a rotated pair the digital ID of its life, signed now. Answer: ``Renewed``."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class SignInfo:
    """Effect: look at the scanner and sign its device info. Answer: ``InfoSigned``."""

    command_id: str


@dataclass(frozen=True, slots=True)
class TakeReading:
    """Effect: read scanner and host. Answer: ``ReadingTaken``."""


Craft = SignFirst | MakeKeys | Adopt | Renew | Destroy | SignInfo | TakeReading | SeeScanner
Effect = Craft | UpgradeEffect
"""A craft is done on the loop and at once; what an upgrade asks takes long and is done off it."""


@dataclass(frozen=True, slots=True)
class FirstSigned:
    """The digital ID of an enrolment."""

    digital_id: str


@dataclass(frozen=True, slots=True)
class KeysMade:
    """Two requests in base64 DER, and the thumbprints of their keys, device first."""

    device_csr: str
    transport_csr: str
    keys: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Adopted:
    """The pair, its digital ID inside."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Renewed:
    """The rotated pair, its digital ID inside."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Destroyed:
    """These keys are no more."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InfoSigned:
    """Device info as a compact JWS."""

    command_id: str
    jws: str


@dataclass(frozen=True, slots=True)
class ReadingTaken:
    """How scanner and host are."""

    sighting: Sighting
    host: Mapping[str, float]
    depth: int
    dropped: int
    thinned: int = 0


CraftOutcome = FirstSigned | KeysMade | Adopted | Renewed | Destroyed | InfoSigned | ReadingTaken | ScannerSeen
Outcome = CraftOutcome | UpgradeOutcome


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the log: an event's name and its fields; never a payload."""

    event: str
    fields: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """One admitted message of the server. chain: of the key that signed it."""

    opened: Opened
    body: Body
    chain: Chain


@dataclass(frozen=True, slots=True)
class Known:
    """What the outbox knows that this message touches. kinds: of the reports that an ``ack`` names."""

    command: PutCommand | None = None
    kinds: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What one step makes happen."""

    session: Session
    changes: tuple[Change, ...] = ()
    says: tuple[Say, ...] = ()
    effects: tuple[Effect, ...] = ()
    notes: tuple[Note, ...] = ()

    def then(self, step: "Pure", at: Instant) -> "Turn":
        """Return this turn and, on its session, the next step's."""
        return self.also(step(self.session, at))

    def also(self, other: "Turn") -> "Turn":
        """Return both turns as one; ``other`` began with this one's session."""
        return Turn(
            other.session,
            self.changes + other.changes,
            self.says + other.says,
            self.effects + other.effects,
            self.notes + other.notes,
        )

    def on(self, session: Session) -> "Turn":
        """Return the same turn with another session."""
        return replace(self, session=session)


Pure = Callable[[Session, Instant], Turn]


def in_order(session: Session, at: Instant, steps: Iterable[Pure]) -> Turn:
    """Take steps one after the other, as one turn."""
    turn = Turn(session)
    for step in steps:
        turn = turn.then(step, at)
    return turn
