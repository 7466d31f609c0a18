"""What operators ask: lists with keyset cursors, one device's papers, counts, the audit. Reads only.

Lists are ascending and go on after a cursor, so that a page never costs more than its rows. Source: S5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, column, func, or_, select
from sqlalchemy import table as bare_table

from fleetward_schemas.commands import OPEN
from fleetward_schemas.topics import DeviceId
from fleetward_server.audit import Link
from fleetward_server.selection import EVERYTHING, Selection
from fleetward_server.state import Certificate, CertificateState, Command, Device, FtmRoot, Model, Report, Use
from fleetward_server.store import rows, tables
from fleetward_server.store.ground import Ground
from fleetward_server.store.lookups import ALL_DEVICES, LIVE
from fleetward_server.store.selecting import begins, selected

PAGE_ROWS = 500
_devices, _reports, _commands, _audit = tables.devices, tables.reports, tables.commands, tables.audit
_SEQUENCE = bare_table("sqlite_sequence", column("name"), column("seq"))


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Which reports; what is None is not asked. since: received at or after."""

    device_id: DeviceId | None = None
    kind: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit rows; what is None is not asked. subject: a device id, a command id, a thumbprint."""

    subject: str | None = None
    actor: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """How often messages of one principal were refused with one code."""

    principal: str
    code: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """The fleet in numbers. states, presences, steps: word -> how many. refusals: code -> how many messages."""

    devices: int
    states: dict[str, int]
    presences: dict[str, int]
    steps: dict[str, int]
    refusals: dict[str, int]


class Queries(Ground):
    """Reads for operators."""

    def device(self, device_id: DeviceId) -> Device | None:
        """Return one device."""
        row = self._first(ALL_DEVICES.where(_devices.c.id == device_id))
        return None if row is None else rows.to_device(row)

    def devices(self, wanted: Selection = EVERYTHING, *, after: str = "", limit: int = PAGE_ROWS) -> tuple[Device, ...]:
        """Return devices by id, those after the cursor ``after``."""
        statement = ALL_DEVICES.where(_devices.c.id > after, selected(wanted))
        return tuple(map(rows.to_device, self._all(statement.order_by(_devices.c.id).limit(limit))))

    def device_ids(self, wanted: Selection) -> tuple[DeviceId, ...]:
        """Return the ids of all devices that a filter means, in order."""
        found = self._all(select(_devices.c.id).where(selected(wanted)).order_by(_devices.c.id))
        return tuple(DeviceId(row.id) for row in found)

    def named(self, text: str, limit: int = 5) -> tuple[Device, ...]:
        """Return the devices that a person may mean by an id, the beginning of one, or a serial number."""
        statement = ALL_DEVICES.where(or_(begins(_devices.c.id, text), _devices.c.serial == text))
        return tuple(map(rows.to_device, self._all(statement.order_by(_devices.c.id).limit(limit))))

    def certificates(self, device_id: DeviceId) -> tuple[Certificate, ...]:
        """Return every certificate a device ever had, oldest first."""
        table = tables.certificates
        found = select(table).where(table.c.device_id == device_id).order_by(table.c.not_before, table.c.use)
        return tuple(map(rows.to_certificate, self._all(found)))

    def revoked_certificates(self, now: datetime) -> tuple[Certificate, ...]:
        """Return what a CRL must name: revoked, or for TLS and followed by another, and not ended by itself."""
        table = tables.certificates
        followed = and_(table.c.state == CertificateState.SUPERSEDED, table.c.use == Use.TRANSPORT)
        out = or_(table.c.state == CertificateState.REVOKED, followed)
        found = select(table).where(out, table.c.not_after > rows.stamp(now))
        return tuple(map(rows.to_certificate, self._all(found.order_by(table.c.serial))))

    def live_certificates(
        self, wanted: Selection, uses: Sequence[Use], *, before: datetime | None = None, limit: int = PAGE_ROWS
    ) -> tuple[Certificate, ...]:
        """Return issued and current certificates of the devices that a filter means, the first to end first."""
        table = tables.certificates
        found = select(table).join(_devices, table.c.device_id == _devices.c.id)
        found = found.where(selected(wanted), table.c.state.in_(LIVE), table.c.use.in_(uses))
        if before is not None:
            found = found.where(table.c.not_after < rows.stamp(before))
        ordered = found.order_by(table.c.not_after, table.c.thumbprint).limit(limit)
        return tuple(map(rows.to_certificate, self._all(ordered)))

    def authorities(self, now: datetime) -> dict[bytes, int]:
        """Return how many certificates of devices count now, by the authority that issued them, in DER."""
        table = tables.certificates
        counts = table.c.state.in_((CertificateState.ISSUED, CertificateState.CURRENT))
        found = select(table.c.authority, func.count().label("times")).where(
            counts, table.c.not_after > rows.stamp(now)
        )
        return {row.authority: int(row.times) for row in self._all(found.group_by(table.c.authority))}

    def reports(
        self, wanted: ReportFilter | None = None, *, after: str = "", limit: int = PAGE_ROWS
    ) -> tuple[Report, ...]:
        """Return reports by id, which is each device's own order, those after the id ``after``."""
        statement = select(_reports).where(_reports.c.id > after, *_report_terms(wanted or ReportFilter()))
        return tuple(map(rows.to_report, self._all(statement.order_by(_reports.c.id).limit(limit))))

    def latest_reports(self, kind: str, wanted: Selection = EVERYTHING) -> tuple[Report, ...]:
        """Return the newest report of a kind of each device that a filter means, by its own order."""
        # By the index on (device, id) from its end: a max() would read every report of the device.
        newest = select(_reports.c.id).where(_reports.c.device_id == _devices.c.id, _reports.c.kind == kind)
        newest = newest.order_by(_reports.c.id.desc()).limit(1).correlate(_devices)
        found = select(_reports).join(_devices, _reports.c.device_id == _devices.c.id)
        found = found.where(selected(wanted), _reports.c.id == newest.scalar_subquery()).order_by(_devices.c.id)
        return tuple(map(rows.to_report, self._all(found)))

    def latest_report(self, device_id: DeviceId, kind: str) -> Report | None:
        """Return the newest report of a kind of one device."""
        found = select(_reports).where(_reports.c.device_id == device_id, _reports.c.kind == kind)
        row = self._first(found.order_by(_reports.c.id.desc()).limit(1))
        return None if row is None else rows.to_report(row)

    def stream_reports(self, wanted: ReportFilter | None = None) -> Iterator[Report]:
        """Yield every report in order of arrival, a page at a time, so that any number fits in memory."""
        terms, after = _report_terms(wanted or ReportFilter()), 0
        while found := self._all(
            select(_reports).where(_reports.c.number > after, *terms).order_by(_reports.c.number).limit(PAGE_ROWS)
        ):
            yield from map(rows.to_report, found)
            after = found[-1].number

    def command(self, command_id: str) -> Command | None:
        """Return one command."""
        row = self._first(select(_commands).where(_commands.c.id == command_id))
        return None if row is None else rows.to_command(row)

    def commands(
        self,
        device_id: DeviceId | None = None,
        *,
        open_only: bool = False,
        after: str = "",
        limit: int = PAGE_ROWS,
    ) -> tuple[Command, ...]:
        """Return commands by id, which is the order they were given in."""
        statement = select(_commands).where(_commands.c.id > after)
        if device_id is not None:
            statement = statement.where(_commands.c.device_id == device_id)
        if open_only:
            statement = statement.where(_commands.c.step.in_(OPEN))
        return tuple(map(rows.to_command, self._all(statement.order_by(_commands.c.id).limit(limit))))

    def models(self) -> tuple[Model, ...]:
        """Return every make and model that was ever judged."""
        return tuple(map(rows.to_model, self._all(select(tables.models).order_by(*tables.models.primary_key))))

    def ftm_roots(self) -> tuple[FtmRoot, ...]:
        """Return every FTM provider's anchor, trusted or no more."""
        table = tables.ftm_roots
        return tuple(map(rows.to_ftm_root, self._all(select(table).order_by(table.c.name, table.c.thumbprint))))

    def refusals(self, principal: str | None = None) -> tuple[RefusalCount, ...]:
        """Return what was refused, of one principal or of all."""
        table = tables.refusals
        statement = select(table, table.c.count.label("times")).order_by(table.c.principal, table.c.code)
        if principal is not None:
            statement = statement.where(table.c.principal == principal)
        found = self._all(statement)
        return tuple(RefusalCount(r.principal, r.code, r.times, rows.moment(r.last_at)) for r in found)

    def counts(self) -> Counts:
        """Return the fleet in numbers."""
        refusals = tables.refusals
        states = self._grouped(_devices.c.state, func.count())
        return Counts(
            devices=sum(states.values()),
            states=states,
            presences=self._grouped(_devices.c.presence, func.count()),
            steps=self._grouped(_commands.c.step, func.count()),
            refusals=self._grouped(refusals.c.code, func.sum(refusals.c.count)),
        )

    def report_counts(self) -> dict[str, int]:
        """Return how many reports are kept, by kind."""
        return self._grouped(_reports.c.kind, func.count())

    def epochs(self) -> tuple[int, int]:
        """Return (trust epoch, revocation epoch) as last committed."""
        found = {row.name: row.value for row in self._all(select(tables.meta))}
        return found["trust"], found["revocation"]

    def history(self, subject: str, limit: int = PAGE_ROWS) -> tuple[Link, ...]:
        """Return the latest audit rows about one subject, oldest first."""
        statement = select(_audit).where(_audit.c.subject == subject).order_by(_audit.c.seq.desc()).limit(limit)
        return tuple(reversed([_to_link(row) for row in self._all(statement)]))

    def audit_links(self, after: int, limit: int, wanted: AuditFilter | None = None) -> list[Link]:
        """Return audit rows after ``after``, ascending."""
        statement = select(_audit).where(_audit.c.seq > after, *_audit_terms(wanted or AuditFilter()))
        return [_to_link(row) for row in self._all(statement.order_by(_audit.c.seq).limit(limit))]

    def audit_length(self) -> int:
        """Return the highest number ever given to an audit row; SQLite keeps it apart from the rows."""
        found = self._all(select(_SEQUENCE.c.seq).where(_SEQUENCE.c.name == "audit"))
        return sum(int(row.seq) for row in found)

    def _grouped(self, word: ColumnElement[str], number: ColumnElement[Any]) -> dict[str, int]:
        found = self._all(select(word.label("word"), number.label("times")).group_by(word).order_by(word))
        return {row.word: int(row.times) for row in found}


def _report_terms(wanted: ReportFilter) -> tuple[ColumnElement[bool], ...]:
    terms: list[ColumnElement[bool]] = []
    if wanted.device_id is not None:
        terms.append(_reports.c.device_id == wanted.device_id)
    if wanted.kind is not None:
        terms.append(_reports.c.kind == wanted.kind)
    if wanted.since is not None:
        terms.append(_reports.c.received_at >= rows.stamp(wanted.since))
    return tuple(terms)


def _audit_terms(wanted: AuditFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.subject is not None:
        yield _audit.c.subject == wanted.subject
    if wanted.actor is not None:
        yield _audit.c.actor == wanted.actor
    if wanted.since is not None:
        yield _audit.c.at >= rows.stamp(wanted.since)


def _to_link(row: rows.AnyRow) -> Link:
    return Link(row.seq, rows.to_entry(row), row.prev_hash, row.hash)
