"""What one transaction has read, each row once; the reads of a batch see its own changes.

Source: deploy/decisions/0001 "How data flows" (one transaction per batch); protocol section 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection, Select, func, select, tuple_

from fleetward_schemas.commands import KEY_VERBS, OPEN
from fleetward_schemas.identity import DigitalId
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Certificate, CertificateState, Challenge, Command, Device
from fleetward_server.store import rows, tables
from fleetward_server.store.memory import Memory
from fleetward_server.store.rows import AnyRow

MOST_BOUND = 400
"""Values in one IN list: well under SQLite's limit, and few lengths of statement to keep compiled."""
LIVE = (CertificateState.ISSUED, CertificateState.CURRENT)
WindowKey = tuple[str, str]
T = TypeVar("T")

_TAGS = (
    select(func.aggregate_strings(tables.tags.c.tag, rows.TAG_SEPARATOR))
    .where(tables.tags.c.device_id == tables.devices.c.id)
    .correlate(tables.devices)
    .scalar_subquery()
)
ALL_DEVICES: Select[tuple[object, ...]] = select(
    tables.devices, tables.sightings.c.seen_at, _TAGS.label("tags")
).select_from(tables.devices.outerjoin(tables.sightings))
_LIVE_CERTIFICATES = (
    select(tables.certificates)
    .where(tables.certificates.c.state.in_(LIVE))
    .order_by(tables.certificates.c.not_before, tables.certificates.c.use)
)
_WINDOW_KEY = tuple_(tables.windows.c.signer, tables.windows.c.topic)
_WINDOWS = select(tables.windows.c.signer, tables.windows.c.topic, tables.windows.c.highest, tables.windows.c.seen)


class Lookups:
    """Reads of one transaction, remembered."""

    def __init__(self, connection: Connection, memory: Memory) -> None:
        """Read on ``connection``, whose transaction the caller began and ends. memory: what is known already."""
        self._connection = connection
        self._memory = memory
        # What this transaction changed; nothing is written before the flush, so that what is read is as committed.
        self._devices: dict[DeviceId, Device] = {}
        self._windows: dict[WindowKey, ReplayWindow] = {}
        self._chains: dict[DeviceId, tuple[Certificate, ...]] = {}
        self._commands: dict[str, Command] = {}
        self._models: dict[tuple[str, ...], bool] = {}
        self._epochs: dict[str, int] | None = None

    def prefetch(
        self, device_ids: Iterable[DeviceId], windows: Iterable[WindowKey], chained: Iterable[DeviceId] = ()
    ) -> None:
        """Read the devices and windows of a batch with a few statements. chained: devices to be read with chains."""
        known = self._memory
        for some in slices([one for one in device_ids if one not in known.devices]):
            known.devices.update(dict.fromkeys(some))
            for row in self._all(ALL_DEVICES.where(tables.devices.c.id.in_(some))):
                known.devices[row.id] = rows.to_device(row)
        for keys in slices([one for one in windows if one not in known.windows]):
            known.windows.update(dict.fromkeys(keys, ReplayWindow()))
            for row in self._all(_WINDOWS.where(_WINDOW_KEY.in_(keys))):
                known.windows[row.signer, row.topic] = rows.to_window(row)
        for some in slices([one for one in chained if one not in self._chains]):
            self._chains.update(self._live(some))

    def device(self, device_id: DeviceId) -> Device | None:
        """Return a device, None when no row has this id.

        Its ``seen_at`` may lag: sightings are counted apart, and an older one never replaces a newer.
        """
        changed = self._devices.get(device_id)
        if changed is not None:
            return changed
        if device_id not in self._memory.devices:
            self.prefetch((device_id,), ())
        return self._memory.devices[device_id]

    def window(self, signer: str, topic: str) -> ReplayWindow:
        """Return the replay window of one signer on one topic; an empty one when none is kept."""
        key = (signer, topic)
        changed = self._windows.get(key)
        if changed is not None:
            return changed
        if key not in self._memory.windows:
            self.prefetch((), (key,))
        return self._memory.windows[key]

    def chains(self, device_id: DeviceId) -> tuple[Certificate, ...]:
        """Return the device's issued and current certificates, oldest first."""
        if device_id not in self._chains:
            self._chains.update(self._live([device_id]))
        return self._chains[device_id]

    def _live(self, device_ids: Sequence[DeviceId]) -> dict[DeviceId, tuple[Certificate, ...]]:
        found: dict[DeviceId, list[Certificate]] = {one: [] for one in device_ids}
        for row in self._all(_LIVE_CERTIFICATES.where(tables.certificates.c.device_id.in_(device_ids))):
            found[row.device_id].append(rows.to_certificate(row))
        return {device_id: tuple(certificates) for device_id, certificates in found.items()}

    def challenge_of_hello(self, principal: str, hello_id: str) -> Challenge | None:
        """Return the challenge that this hello got."""
        table = tables.challenges
        row = self._first(select(table).where(table.c.principal == principal, table.c.hello_id == hello_id))
        return None if row is None else rows.to_challenge(row)

    def challenge_of_nonce(self, principal: str, server_nonce: str) -> Challenge | None:
        """Return the challenge of this principal that carries our nonce."""
        table = tables.challenges
        row = self._first(select(table).where(table.c.principal == principal, table.c.server_nonce == server_nonce))
        return None if row is None else rows.to_challenge(row)

    def ftm_owner(self, key: str) -> DeviceId | None:
        """Return the device that an FTM key is bound to for ever."""
        table = tables.ftm_bindings
        row = self._first(select(table.c.device_id).where(table.c.key == key))
        return None if row is None else DeviceId(row.device_id)

    def model_approved(self, identity: DigitalId) -> bool:
        """Say whether the provider may register this make and model."""
        kind = (identity.deviceProviderId, identity.make, identity.model, identity.type, identity.deviceSubType)
        if kind not in self._models:
            table = tables.models
            row = self._first(select(table.c.approved).where(tuple_(*table.primary_key) == kind))
            self._models[kind] = row is not None and row.approved
        return self._models[kind]

    def taken_keys(self, thumbs: Iterable[str]) -> frozenset[str]:
        """Return which of these keys stand in any certificate of the fleet, or are of a chip bound to a device."""
        columns, parts = (tables.certificates.c.key_thumbprint, tables.ftm_bindings.c.key), slices(list(thumbs))
        found = (self._all(select(one).where(one.in_(some))) for some in parts for one in columns)
        return frozenset(row[0] for some in found for row in some)

    def command(self, command_id: str) -> Command | None:
        """Return a command."""
        if command_id in self._commands:
            return self._commands[command_id]
        row = self._first(select(tables.commands).where(tables.commands.c.id == command_id))
        return None if row is None else rows.to_command(row)

    def open_commands(self, device_id: DeviceId) -> int:
        """Return how many orders of a device have no final answer yet, as it was committed."""
        table = tables.commands
        wanted = select(func.count()).where(table.c.device_id == device_id, table.c.step.in_(OPEN))
        return int(self._connection.execute(wanted).scalar_one())

    def key_commands(self, device_id: DeviceId) -> tuple[Command, ...]:
        """Return the device's open commands that change keys, oldest first."""
        table = tables.commands
        wanted = select(table).where(
            table.c.device_id == device_id, table.c.verb.in_(KEY_VERBS), table.c.step.in_(OPEN)
        )
        return tuple(map(rows.to_command, self._all(wanted.order_by(table.c.id))))

    def epochs(self) -> tuple[int, int]:
        """Return (trust epoch, revocation epoch): what was verified under other numbers must be verified again."""
        if self._epochs is None:
            self._epochs = {row.name: row.value for row in self._all(select(tables.meta))}
        return self._epochs["trust"], self._epochs["revocation"]

    def _all(self, statement: Select[tuple[object, ...]]) -> Sequence[AnyRow]:
        return self._connection.execute(statement).all()

    def _first(self, statement: Select[tuple[object, ...]]) -> AnyRow | None:
        return self._connection.execute(statement).first()


def slices(wanted: list[T]) -> Iterator[list[T]]:
    """Yield a list in pieces that one statement takes."""
    rest = iter(wanted)
    while some := list(islice(rest, MOST_BOUND)):
        yield some
