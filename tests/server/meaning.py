"""What a filter means, in plain Python: what the database finds is held against it."""

from dataclasses import dataclass
from datetime import datetime

from fleetward_server.selection import Absent, After, Before, Begins, Field, Is, Selection, Test
from fleetward_server.state import Device
from fleetward_server.upgrade_state import Upgrade


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device as filters see it. certificate_ends: when the last of its live device certificates ends.

    upgrades: how far its software got; ``runs`` is ``name@version`` or ``name@counter`` of what it committed.
    """

    device: Device
    certificate_ends: datetime | None = None
    upgrades: tuple[Upgrade, ...] = ()


def holds(selection: Selection, candidate: Candidate) -> bool:
    """Say whether a device is meant."""
    return all(
        any(_passes(term.field, test, candidate) for test in term.tests) != term.negated for term in selection.terms
    )


def _passes(field: Field, test: Test, candidate: Candidate) -> bool:
    match test:
        case Is(text):
            return text in _words(field, candidate)
        case Begins(text):
            return any(word.startswith(text) for word in _words(field, candidate))
        case Absent():
            return _at(field, candidate) is None
        case Before(limit):
            return (at := _at(field, candidate)) is not None and at < limit
        case After(limit):
            return (at := _at(field, candidate)) is not None and at > limit


def runs(one: Upgrade) -> tuple[str, ...]:
    """Return how a filter may call what a device runs."""
    held = one.committed
    return () if held is None else (f"{one.name}@{held.version}", f"{one.name}@{held.counter}")


def _at(field: Field, candidate: Candidate) -> datetime | None:
    return candidate.device.seen_at if field is Field.SEEN else candidate.certificate_ends


def _words(field: Field, candidate: Candidate) -> tuple[str, ...]:
    device, identity = candidate.device, candidate.device.identity
    several: dict[Field, tuple[str | None, ...]] = {
        Field.NAME: (device.id, identity.serialNo),
        Field.ID: (device.id,),
        Field.SERIAL: (identity.serialNo,),
        Field.MAKE: (identity.make,),
        Field.MODEL: (identity.model,),
        Field.TYPE: (identity.type,),
        Field.PROVIDER: (identity.deviceProviderId,),
        Field.STATE: (device.state, device.presence),
        Field.LEVEL: (device.certification,),
        Field.PURPOSE: (device.purpose,),
        Field.REASON: (device.reason,),
        Field.TAG: device.tags,
        Field.VERSION: (device.agent_version,),
        Field.RUNS: tuple(word for one in candidate.upgrades for word in runs(one)),
        Field.UPGRADE: tuple(one.phase for one in candidate.upgrades),
    }
    return tuple(word for word in several[field] if word is not None)
