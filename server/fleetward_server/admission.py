"""The list meets the register: which records a provider's list adds and changes, and which rows contradict a record.

What a record says of identity, level, purpose and FTM key never changes. A pending record that was never listed holds
only what a stranger claimed, so there the list wins. Source: S5; protocol section 1 (the record decides).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleetward_schemas.enrol import Event, State, advance
from fleetward_schemas.topics import DeviceId
from fleetward_server.listing import IDENTITY_COLUMNS, Fields, Listed, Wrong, read_row
from fleetward_server.state import Device


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one row. column: None when it is the whole row."""

    place: str
    column: str | None
    message: str

    def __str__(self) -> str:
        """Print ``place: column: message``."""
        return ": ".join(part for part in (self.place, self.column, self.message) if part)


def first(flaws: Sequence[Flaw], most: int = 20) -> list[str]:
    """Return so many flaws, a line each, and how many more there are."""
    told = [str(flaw) for flaw in flaws[:most]]
    return told if len(flaws) <= most else [*told, f"and {len(flaws) - most} more: --dry-run --json shows all"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A record that the list changes, and what of it."""

    id: DeviceId
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """What an import does or would do. unchanged: how many records are as the list has them."""

    added: tuple[DeviceId, ...] = ()
    changed: tuple[Moved, ...] = ()
    unchanged: int = 0
    errors: tuple[Flaw, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What the register has of a row. ftm_owner: the device that the row's FTM key is bound to."""

    device: Device | None
    ftm_owner: DeviceId | None = None


@dataclass(slots=True)
class Plan:
    """The records to put and what they change, filled row by row."""

    devices: list[Device] = field(default_factory=list)
    added: list[DeviceId] = field(default_factory=list)
    changed: list[Moved] = field(default_factory=list)
    unchanged: int = 0
    errors: list[Flaw] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def diff(self) -> Diff:
        """Return what was found."""
        return Diff(tuple(self.added), tuple(self.changed), self.unchanged, tuple(self.errors))

    def take(self, listed: Listed, record: Record, now: datetime) -> None:
        """Add one row.

        Raises:
            Wrong: the row contradicts the register or an earlier row.
        """
        self._once(listed)
        if record.ftm_owner not in {None, listed.id}:
            raise Wrong("ftmKey", f"is bound to device {record.ftm_owner} for ever")
        if record.device is None:
            self.devices.append(_newcomer(listed, now))
            self.added.append(listed.id)
            return
        device, columns = _merged(record.device, listed)
        if not columns:
            self.unchanged += 1
            return
        self.devices.append(replace(device, changed_at=now))
        self.changed.append(Moved(listed.id, columns))

    def _once(self, listed: Listed) -> None:
        for column, value in (("serialNo", listed.id), ("ftmKey", listed.ftm_key)):
            if value is not None and value in self.seen:
                raise Wrong(column, f"the same as in {self.seen[value]}")
            if value is not None:
                self.seen[value] = listed.place


def read(rows: Sequence[Fields], places: Sequence[str], provider_id: str, now: datetime) -> tuple[Listed | Flaw, ...]:
    """Read a list, every row of it. places: where each row stands; without them rows are counted."""
    found: list[Listed | Flaw] = []
    for number, row in enumerate(rows, 1):
        place = places[number - 1] if places else f"row {number}"
        try:
            found.append(read_row(row, place, provider_id, now))
        except Wrong as wrong:
            found.append(Flaw(place, wrong.column, str(wrong)))
    return tuple(found)


def plan(found: Sequence[Listed | Flaw], record_of: Callable[[Listed], Record], now: datetime) -> Plan:
    """Hold what was read against the register."""
    made = Plan()
    for one in found:
        if isinstance(one, Flaw):
            made.errors.append(one)
            continue
        try:
            made.take(one, record_of(one), now)
        except Wrong as wrong:
            made.errors.append(Flaw(one.place, wrong.column, str(wrong)))
    return made


def _newcomer(listed: Listed, now: datetime) -> Device:
    return Device(
        id=listed.id,
        state=State.APPROVED,
        certification=listed.certification,
        purpose=listed.purpose,
        identity=listed.identity,
        listed=True,
        ftm_key=listed.ftm_key,
        tags=listed.tags or (),
        created_at=now,
        changed_at=now,
    )


def _merged(device: Device, listed: Listed) -> tuple[Device, tuple[str, ...]]:
    """Return the record as the list wants it, and the columns that move."""
    if device.state is State.PENDING and not device.listed:
        return _believed(device, listed), ("listed", "state")
    _agrees(device, listed)
    wanted = replace(
        device,
        listed=True,
        ftm_key=device.ftm_key or listed.ftm_key,
        tags=device.tags if listed.tags is None else listed.tags,
    )
    named = (("listed", "listed"), ("ftmKey", "ftm_key"), ("tags", "tags"))
    return wanted, tuple(column for column, name in named if getattr(wanted, name) != getattr(device, name))


def _believed(device: Device, listed: Listed) -> Device:
    """The list's word replaces a stranger's claim; the key that asked must still prove itself against it."""
    return replace(
        device,
        state=advance(device.state, Event.APPROVE),
        certification=listed.certification,
        purpose=listed.purpose,
        identity=listed.identity,
        listed=True,
        ftm_key=listed.ftm_key,
        tags=device.tags if listed.tags is None else listed.tags,
    )


def _agrees(device: Device, listed: Listed) -> None:
    pairs = [
        (column, getattr(device.identity, column), getattr(listed.identity, column)) for column in IDENTITY_COLUMNS
    ]
    pairs.append(("certification", str(device.certification), str(listed.certification)))
    pairs.append(("purpose", str(device.purpose), str(listed.purpose)))
    if device.ftm_key is not None and listed.ftm_key is not None:
        pairs.append(("ftmKey", device.ftm_key, listed.ftm_key))
    for column, has, says in pairs:
        if has != says:
            raise Wrong(column, f"{says!r}: the record of {device.id} says {has!r}, which never changes")
