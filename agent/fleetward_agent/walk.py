"""Where a device stands on its way, as one table, and the door that each stage needs to the broker.

A device connects as ``f-`` only with no certificate, with one expired in trusted time, or after the broker refused it,
or the server answered it nothing, for an hour. Date checks are off only while the time is unknown, and then only the
time is asked.
Source: protocol section 5 "First contact", "Operation".
"""

from dataclasses import dataclass
from enum import StrEnum

from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.topics import Role

SHUT_OUT_S = 3600


class Stage(StrEnum):
    """One stage. *_TIME: unsynced, asks the time alone. GREETING: ``online`` is not acknowledged yet."""

    RESTING = "resting"
    FACTORY_TIME = "factory-time"
    HELLO = "hello"
    ENROL = "enrol"
    DEVICE_TIME = "device-time"
    GREETING = "greeting"
    WORKING = "working"


class Step(StrEnum):
    """What moves a device on. SHUT_OUT: refused or unanswered for an hour. HELD: pending, or refused for now.

    ROTATED: another pair of keys is to be greeted with. GONE: retired or revoked.
    """

    SYNCED = "synced"
    UNSYNCED = "unsynced"
    CHALLENGED = "challenged"
    LAPSED = "lapsed"
    HELD = "held"
    REGISTERED = "registered"
    GREETED = "greeted"
    LOST = "lost"
    EXPIRED = "expired"
    SHUT_OUT = "shut-out"
    GONE = "gone"
    ROTATED = "rotated"
    WOKEN = "woken"


_AWAY = {Step.EXPIRED: Stage.FACTORY_TIME, Step.SHUT_OUT: Stage.FACTORY_TIME, Step.GONE: Stage.RESTING}

NEXT: dict[Stage, dict[Step, Stage]] = {
    Stage.RESTING: {Step.WOKEN: Stage.FACTORY_TIME},
    Stage.FACTORY_TIME: {Step.SYNCED: Stage.HELLO},
    Stage.HELLO: {
        Step.UNSYNCED: Stage.FACTORY_TIME,
        Step.CHALLENGED: Stage.ENROL,
        Step.HELD: Stage.HELLO,
        Step.REGISTERED: Stage.GREETING,
        Step.GONE: Stage.RESTING,
    },
    Stage.ENROL: {
        Step.UNSYNCED: Stage.FACTORY_TIME,
        Step.LAPSED: Stage.HELLO,
        Step.HELD: Stage.HELLO,
        Step.REGISTERED: Stage.GREETING,
        Step.GONE: Stage.RESTING,
    },
    Stage.DEVICE_TIME: {Step.SYNCED: Stage.GREETING} | _AWAY,
    Stage.GREETING: {Step.UNSYNCED: Stage.DEVICE_TIME, Step.GREETED: Stage.WORKING} | _AWAY,
    Stage.WORKING: {
        Step.UNSYNCED: Stage.DEVICE_TIME,
        Step.LOST: Stage.GREETING,
        Step.ROTATED: Stage.GREETING,
    }
    | _AWAY,
}


def may_advance(stage: Stage, step: Step) -> bool:
    """Say whether the table has the step."""
    return step in NEXT[stage]


def advance(stage: Stage, step: Step) -> Stage:
    """Return the stage after ``step``.

    Raises:
        LocalMistake: the table has no such step; ask ``may_advance`` first.
    """
    try:
        return NEXT[stage][step]
    except KeyError:
        raise LocalMistake(f"{step} while {stage}") from None


@dataclass(frozen=True, slots=True)
class Door:
    """How to come in. strict: certificates' dates are checked, so the time must be known."""

    role: Role
    strict: bool


_FACTORY, _DEVICE = Door(Role.FACTORY, strict=True), Door(Role.DEVICE, strict=True)

DOORS: dict[Stage, Door | None] = {
    Stage.RESTING: None,
    Stage.FACTORY_TIME: Door(Role.FACTORY, strict=False),
    Stage.HELLO: _FACTORY,
    Stage.ENROL: _FACTORY,
    Stage.DEVICE_TIME: Door(Role.DEVICE, strict=False),
    Stage.GREETING: _DEVICE,
    Stage.WORKING: _DEVICE,
}

QUESTIONS: dict[Stage, frozenset[str]] = {
    Stage.RESTING: frozenset(),
    Stage.FACTORY_TIME: frozenset({"time"}),
    Stage.HELLO: frozenset({"time", "hello"}),
    Stage.ENROL: frozenset({"time", "enrol"}),
    Stage.DEVICE_TIME: frozenset({"time"}),
    Stage.GREETING: frozenset({"time", "status"}),
    Stage.WORKING: frozenset({"time", "csr"}),
}
"""Which questions may be open at each stage; all others are dropped on the way in."""
