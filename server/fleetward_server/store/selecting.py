"""A filter as a condition that the database evaluates; a test holds it against the same in plain Python.

Every part is true or false and never unknown, since NOT of unknown would lose a device. Nothing a person wrote becomes
SQL; it is bound. Source: selection.py for the grammar.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, and_, cast, false, func, not_, or_, select, true, type_coerce

from fleetward_server.selection import Absent, After, Before, Begins, Field, Is, Selection, Term, Test
from fleetward_server.state import Use
from fleetward_server.store import rows, tables
from fleetward_server.store.lookups import LIVE
from fleetward_server.store.upgrade_tables import upgrades

_devices, _sightings, _certificates = tables.devices, tables.sightings, tables.certificates
_LAST = "\U0010ffff"


def selected(selection: Selection) -> ColumnElement[bool]:
    """Return the condition over ``devices``, whichever way they are joined."""
    return and_(true(), *map(_term, selection.terms))


def begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """A range rather than LIKE: an index serves it, and no character in ``text`` means more than itself."""
    return column.between(text, text + _LAST)


def _term(term: Term) -> ColumnElement[bool]:
    tests = tuple(_tests(term.field, term.tests))
    held = or_(false(), *tests)
    if term.field is Field.TAG:
        held = select(tables.tags).where(tables.tags.c.device_id == _devices.c.id, held).correlate(_devices).exists()
    if term.field in {Field.RUNS, Field.UPGRADE}:
        held = select(upgrades).where(upgrades.c.device_id == _devices.c.id, held).correlate(_devices).exists()
    return not_(held) if term.negated else held


def _tests(field: Field, tests: tuple[Test, ...]) -> Iterator[ColumnElement[bool]]:
    exact = [test.text for test in tests if isinstance(test, Is)]
    if exact:
        yield from (_known(column, column.in_(exact)) for column in _columns(field))
    for test in tests:
        match test:
            case Begins(text):
                yield from (_known(column, begins(column, text)) for column in _columns(field))
            case Absent():
                yield _moment(field).is_(None)
            case Before(at):
                yield _known(_moment(field), _moment(field) < rows.stamp(at))
            case After(at):
                yield _known(_moment(field), _moment(field) > rows.stamp(at))


def _known(column: ColumnElement[Any], condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(column.is_not(None), condition)


def _columns(field: Field) -> tuple[ColumnElement[str], ...]:
    several: dict[Field, tuple[ColumnElement[str], ...]] = {
        Field.NAME: (_devices.c.id, _devices.c.serial),
        Field.ID: (_devices.c.id,),
        Field.SERIAL: (_devices.c.serial,),
        Field.MAKE: (_member("make"),),
        Field.MODEL: (_devices.c.model,),
        Field.TYPE: (_member("type"),),
        Field.PROVIDER: (_member("deviceProviderId"),),
        Field.STATE: (_devices.c.state, _devices.c.presence),
        Field.LEVEL: (_devices.c.certification,),
        Field.PURPOSE: (_devices.c.purpose,),
        Field.REASON: (_devices.c.reason,),
        Field.TAG: (tables.tags.c.tag,),
        Field.VERSION: (_devices.c.agent_version,),
        Field.RUNS: (_named(upgrades.c.committed_label), _named(cast(upgrades.c.committed_counter, Text))),
        Field.UPGRADE: (upgrades.c.phase,),
    }
    return several[field]


def _named(column: ColumnElement[str]) -> ColumnElement[str]:
    """What a piece of software is called with its version or its counter; null where none was committed."""
    return upgrades.c.name + "@" + column


def _member(name: str) -> ColumnElement[str]:
    """A member of the identity, which is kept as JSON."""
    member: ColumnElement[str] = type_coerce(_devices.c.identity, JSON)[name].as_string()
    return member


def _moment(field: Field) -> ColumnElement[int]:
    if field is Field.SEEN:
        seen = select(_sightings.c.seen_at).where(_sightings.c.device_id == _devices.c.id)
        return seen.correlate(_devices).scalar_subquery()
    ends = select(func.max(_certificates.c.not_after)).where(
        _certificates.c.device_id == _devices.c.id,
        _certificates.c.use == Use.DEVICE,
        _certificates.c.state.in_(LIVE),
    )
    return ends.correlate(_devices).scalar_subquery()
