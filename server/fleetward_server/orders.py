"""What may be ordered of a device, and when: closed parameters, a term, one change of keys at a time, a cap.

Source: S4; protocol section 5 "Commands".
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fleetward_schemas.commands import KEY_VERBS, PARAMS, Event, Step, Verb, advance, takes
from fleetward_schemas.enrol import State
from fleetward_schemas.messages import WEEK_S
from fleetward_server.changes import PutCommand
from fleetward_server.commands import MOST_OPEN
from fleetward_server.problem import Kind, OperatorProblem, nearest
from fleetward_server.state import Command, Device
from fleetward_server.store import Unit


@dataclass(frozen=True, slots=True)
class Order:
    """What a device is to do. expires_in_s: seconds until it is given up."""

    verb: Verb
    params: Mapping[str, object]
    expires_in_s: int


def order(verb: str, params: Mapping[str, object], expires_in_s: int) -> Order:
    """Read what is to be ordered.

    Raises:
        OperatorProblem: ``invalid``: no such command, parameter or term.
    """
    if verb not in list(Verb):
        raise OperatorProblem(Kind.INVALID, f"unknown command {verb!r}; {nearest(verb, Verb)}")
    _params(Verb(verb), params)
    if not 1 <= expires_in_s <= WEEK_S:
        raise OperatorProblem(Kind.INVALID, f"expires in {expires_in_s} s: expected 1..{WEEK_S}")
    return Order(Verb(verb), params, expires_in_s)


def _params(verb: Verb, params: Mapping[str, object]) -> None:
    names = PARAMS[verb].__struct_fields__
    for name in params:
        if name not in names:
            raise OperatorProblem(Kind.INVALID, f"{verb} has no parameter {name!r}; it takes {_listed(names)}")
    missing = [name for name in names if name not in params]
    if missing:
        raise OperatorProblem(Kind.INVALID, f"{verb} needs --param {missing[0]}=VALUE")
    if not takes(verb, params):
        raise OperatorProblem(Kind.INVALID, f"{verb}: {dict(params)!r}: expected words for {_listed(names)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def obeys(device: Device) -> None:
    """Raise OperatorProblem (``held``, ``conflict``) unless a device takes commands."""
    if device.state in {State.PENDING, State.APPROVED}:
        raise OperatorProblem(Kind.HELD, f"{device.id} is {device.state}: it takes commands once it is registered")
    if device.state is not State.REGISTERED:
        raise OperatorProblem(Kind.CONFLICT, f"{device.id} is {device.state}: it takes no commands")


def has_room(unit: Unit, newer: Command) -> None:
    """Raise OperatorProblem (``conflict``) for one order too many; a change of keys is never kept waiting by others."""
    waiting = unit.open_commands(newer.device_id)
    if waiting >= MOST_OPEN and newer.verb not in KEY_VERBS:
        told = f"{newer.device_id} has {waiting} open commands, {MOST_OPEN} at most: wait for answers or their expiry"
        raise OperatorProblem(Kind.CONFLICT, told)


def superseded(unit: Unit, newer: Command) -> Iterator[PutCommand]:
    """Take back a rotation that was never sent, in favour of ``newer``; a device does one key command at a time.

    Raises:
        OperatorProblem: ``conflict``: one is under way, or the device is to retire.
    """
    if newer.verb not in KEY_VERBS:
        return
    for older in unit.key_commands(newer.device_id):
        if older.verb == Verb.RETIRE:
            raise OperatorProblem(Kind.CONFLICT, f"{newer.device_id} is to retire already: command {older.id}")
        if older.step is Step.QUEUED:
            yield PutCommand(replace(older, step=advance(older.step, Event.SUPERSEDE), changed_at=newer.created_at))
        elif newer.verb == Verb.ROTATE_KEY:
            raise OperatorProblem(Kind.CONFLICT, f"{newer.device_id} is rotating already: command {older.id}")
