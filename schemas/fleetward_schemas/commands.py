"""Commands and their results: durable at the server until answered, done at most once by the device.

Source: S4; protocol section 5 "Commands". The list is closed and holds no capture (C9).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from fleetward_schemas.errors import LocalMistake, Refused
from fleetward_schemas.shapes import DownBody, MessageId, UpBody, Word


class Verb(StrEnum):
    """What a server may order."""

    COLLECT_INFO = "collect-info"
    SYNC_TIME = "sync-time"
    ROTATE_KEY = "rotate-key"
    RETIRE = "retire"
    UNLOCK_UPGRADE = "unlock-upgrade"


KEY_VERBS = frozenset({Verb.ROTATE_KEY, Verb.RETIRE})
"""Change a device's keys: one at a time, a second one meanwhile is ``busy``; after a crash they resume."""


class ResultState(StrEnum):
    """What a device says of a command."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


class ResultReason(StrEnum):
    """Why a command was refused or failed."""

    UNKNOWN_COMMAND = "unknown-command"
    BAD_PARAMS = "bad-params"
    BUSY = "busy"
    CLOCK = "clock"
    STORAGE = "storage"
    INTERRUPTED = "interrupted"
    CSR_REFUSED = "csr-refused"


class Command(DownBody, frozen=True):
    """One order. command: a word, so that an old agent can refuse what it does not know. params: closed per command."""

    commandId: MessageId  # noqa: N815
    command: Word
    params: Annotated[dict[str, Any], Meta(max_length=16)]


class Params(DownBody, frozen=True, forbid_unknown_fields=True):
    """What a command takes; nothing, unless it says so. Closed: a parameter that is not known would not be heeded."""


class UnlockParams(Params, frozen=True):
    """Of ``unlock-upgrade``. name: the piece of software whose target is locked after too many attempts."""

    name: Word


PARAMS: Mapping[Verb, type[Params]] = dict.fromkeys(Verb, Params) | {Verb.UNLOCK_UPGRADE: UnlockParams}


def takes(verb: Verb, params: Mapping[str, Any]) -> bool:
    """Say whether these are a command's parameters: all that it needs, and no other."""
    try:
        PARAMS[verb].read(dict(params))
    except Refused:
        return False
    return True


class Result(UpBody, frozen=True):
    """What became of it. reason: null unless refused or failed."""

    commandId: MessageId  # noqa: N815
    state: ResultState
    reason: ResultReason | None = None


class Step(StrEnum):
    """Where a command stands at the server. ``expired`` is provisional: a signed result replaces it."""

    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    """What moves a command."""

    SEND = "send"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDE = "supersede"


_RESULTS = {
    Event.ACCEPTED: Step.ACCEPTED,
    Event.SUCCEEDED: Step.SUCCEEDED,
    Event.FAILED: Step.FAILED,
    Event.REFUSED: Step.REFUSED,
    Event.EXPIRED: Step.EXPIRED,
}
_FINALS = {event: step for event, step in _RESULTS.items() if event is not Event.ACCEPTED}

NEXT: dict[Step, dict[Event, Step]] = {
    Step.QUEUED: {Event.SEND: Step.SENT, Event.SUPERSEDE: Step.SUPERSEDED} | _RESULTS,
    Step.SENT: {Event.SEND: Step.SENT} | _RESULTS,
    Step.ACCEPTED: {Event.SEND: Step.ACCEPTED, Event.ACCEPTED: Step.ACCEPTED} | _FINALS,
    Step.EXPIRED: dict(_RESULTS),
    Step.SUCCEEDED: {},
    Step.FAILED: {},
    Step.REFUSED: {},
    Step.SUPERSEDED: {},
}
FINAL = frozenset({Step.SUCCEEDED, Step.FAILED, Step.REFUSED, Step.SUPERSEDED})
OPEN = frozenset({Step.QUEUED, Step.SENT, Step.ACCEPTED})


def advance(step: Step, event: Event) -> Step:
    """Return the step after ``event``.

    Raises:
        LocalMistake: the table has no such step; ask ``may_advance`` first.
    """
    try:
        return NEXT[step][event]
    except KeyError:
        raise LocalMistake(f"{event} while {step}") from None


def may_advance(step: Step, event: Event) -> bool:
    """Say whether the table has the step: a late word after a final one has none and changes nothing."""
    return event in NEXT[step]
