"""One transaction: what a batch of messages, or one act of an operator, changes; all of it or nothing.

What every message changes (windows, reports, sightings, counters) is gathered and written with one statement per table
at the end; the rest at once, so that the next message of the batch is judged by it.
Source: deploy/decisions/0001 "Commit, then acknowledge, then send"; protocol section 3 (one commit).
"""

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, LocalMistake
from fleetward_schemas.identity import may_serve
from fleetward_schemas.topics import DeviceId
from fleetward_server.audit import GENESIS, Link, follow
from fleetward_server.changes import (
    AddAudit,
    AddCertificates,
    AddReport,
    BindFtm,
    Change,
    CountRefusal,
    Cut,
    PutChallenge,
    PutCommand,
    PutDevice,
    PutWindow,
    RevokeCertificates,
    Seen,
    TakeCertificates,
)
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.queue import Task
from fleetward_server.state import Certificate, CertificateState, Device, FtmRoot, Model, Report
from fleetward_server.store import journal, mosip_tables, rows, tables
from fleetward_server.store.lookups import LIVE, WindowKey
from fleetward_server.store.memory import Memory
from fleetward_server.store.mosip import from_encryption, from_task
from fleetward_server.store.rows import Values
from fleetward_server.store.statements import (
    ADDED_REFUSALS,
    KEPT_WINDOW,
    LATEST_CUT,
    LATEST_SIGHTING,
    NEW_REPORT,
    upsert,
)
from fleetward_server.store.upgrades import UpgradeUnit

_SILENCED = frozenset({State.REFUSED, State.REVOKED, State.RETIRED})
_TOLD = _SILENCED | {State.QUARANTINED}
"""States whose coming and going a restored register must know of."""
_STEP_BITS = 32


class Unit(UpgradeUnit):
    """One transaction's reads and changes; ``Store.unit`` makes it and commits it."""

    def __init__(self, connection: Connection, memory: Memory) -> None:
        """Work on ``connection``, whose transaction the caller began and ends."""
        super().__init__(connection, memory)
        self._kept_windows: dict[WindowKey, PutWindow] = {}
        self._seen: dict[DeviceId, datetime] = {}
        self._reports: dict[tuple[DeviceId, str], Report] = {}
        self._refusals: dict[tuple[str, Code], tuple[int, datetime]] = {}
        self._put_commands: set[str] = set()
        self._links: list[Link] = []
        self._moved: set[str] = set()
        self._retagged: set[DeviceId] = set()
        self._journaled: dict[DeviceId, tuple[Certificate, ...]] = {}
        self._appliers: dict[type, Callable[[Any], None]] = {
            PutDevice: self._put_device,
            Seen: self._see,
            PutWindow: self._put_window,
            AddReport: self._add_report,
            PutChallenge: self._put_challenge,
            AddCertificates: self._add_certificates,
            TakeCertificates: self._take_certificates,
            RevokeCertificates: self._revoke_certificates,
            Cut: self._cut,
            BindFtm: self._bind_ftm,
            PutCommand: self._put_command,
            CountRefusal: self._count_refusal,
            AddAudit: self._add_audit,
        }
        self._appliers |= self.upgrade_appliers()

    def apply(self, changes: Iterable[Change]) -> None:
        """Make changes, in order."""
        for change in changes:
            self._appliers[type(change)](change)

    def has_report(self, device_id: DeviceId, report_id: str) -> bool:
        """Say whether a report is stored, or is about to be by this transaction."""
        if (device_id, report_id) in self._reports:
            return True
        table = tables.reports
        return (
            self._first(select(table.c.id).where(table.c.device_id == device_id, table.c.id == report_id)) is not None
        )

    def put_model(self, model: Model) -> None:
        """Approve a make and model, or take the approval back."""
        table = tables.models
        key = {"provider_id": model.provider_id, "make": model.make, "model": model.model}
        row = key | {"type": model.type, "sub_type": model.sub_type, "approved": model.approved}
        self._connection.execute(upsert(table), row)
        self._models.clear()
        self._move("trust")

    def put_ftm_root(self, root: FtmRoot) -> None:
        """Trust an FTM provider's anchor, or cease to."""
        row = {"thumbprint": root.thumbprint, "name": root.name, "der": root.der, "trusted": root.trusted}
        self._connection.execute(upsert(tables.ftm_roots), row | {"leniencies": " ".join(root.leniencies)})
        self._move("trust")

    def put_mosip_task(self, task: Task) -> None:
        """Keep a task for MOSIP: a new one if it has no number yet.

        Raises:
            LocalMistake: a second open one of its device, at the commit.
        """
        self._connection.execute(upsert(mosip_tables.mosip_tasks), from_task(task))

    def put_encryption_certificate(self, kept: EncryptionCertificate) -> None:
        """Keep what biometrics are encrypted for."""
        self._connection.execute(upsert(mosip_tables.encryption_certificates), from_encryption(kept))

    def flush(self) -> None:
        """Write what was gathered; ``Store.unit`` calls it before the commit."""
        self._many(upsert(tables.devices), list(map(rows.from_device, self._devices.values())))
        self._write_tags()
        LATEST_SIGHTING.run(self._connection, [_sighting(*one) for one in self._seen.items()])
        KEPT_WINDOW.run(self._connection, list(map(rows.from_window, self._kept_windows.values())))
        NEW_REPORT.run(self._connection, list(map(rows.from_report, self._reports.values())))
        self._many(upsert(tables.commands), [rows.from_command(self._commands[one]) for one in self._put_commands])
        self.flush_upgrades()
        self._many(ADDED_REFUSALS, [_refusal(*key, *value) for key, value in self._refusals.items()])
        self._many(insert(tables.audit), list(map(_from_link, self._links)))
        for name in self._moved:
            value = (self._epochs or {})[name]
            self._connection.execute(update(tables.meta).where(tables.meta.c.name == name).values(value=value))

    def journal_lines(self) -> bytes:
        """Return what must outlive this file; ``Store.unit`` writes it down before the commit."""
        told = ((self.device(device_id), issued) for device_id, issued in self._journaled.items())
        return b"".join(journal.show(device, issued) for device, issued in told if device is not None)

    def remember(self) -> None:
        """Keep what was committed for the next transaction."""
        self._memory.keep(self._devices, self._windows)

    def _write_tags(self) -> None:
        if self._retagged:
            gone = delete(tables.tags).where(tables.tags.c.device_id == bindparam("retagged"))
            self._connection.execute(gone, [{"retagged": device_id} for device_id in self._retagged])
        self._many(insert(tables.tags), [tag for one in self._retagged for tag in rows.from_tags(self._devices[one])])

    def _many(self, statement: Insert, values: list[Values]) -> None:
        if values:
            self._connection.execute(statement, values)

    def _put_device(self, change: PutDevice) -> None:
        device = change.device
        before = self.device(device.id)
        _require_unchanged(before, device)
        # A device that is silenced must not be believed from a cache (intake.py keys its caches by this epoch).
        if device.state in _SILENCED and before is not None and before.state is not device.state:
            self._move("revocation")
        if before is not None and before.state is not device.state and {before.state, device.state} & _TOLD:
            self._journaled.setdefault(device.id, ())
        if device.tags != (() if before is None else before.tags):
            self._retagged.add(device.id)
        self._devices[device.id] = device
        if device.seen_at is not None:
            self._see(Seen(device.id, device.seen_at))

    def _see(self, change: Seen) -> None:
        before = self._seen.get(change.device_id)
        if before is None or change.at > before:
            self._seen[change.device_id] = change.at

    def _put_window(self, change: PutWindow) -> None:
        key = (change.signer, change.topic)
        self._windows[key] = change.window
        self._kept_windows[key] = change

    def _add_report(self, change: AddReport) -> None:
        # The first one stays: a report is stored once per (device, id).
        self._reports.setdefault((change.report.device_id, change.report.id), change.report)

    def _put_challenge(self, change: PutChallenge) -> None:
        self._connection.execute(upsert(tables.challenges), rows.from_challenge(change.challenge))

    def _add_certificates(self, change: AddCertificates) -> None:
        self._many(insert(tables.certificates), list(map(rows.from_certificate, change.certificates)))
        for certificate in change.certificates:
            self._chains.pop(certificate.device_id, None)
            issued = self._journaled.get(certificate.device_id, ())
            self._journaled[certificate.device_id] = (*issued, certificate)

    def _take_certificates(self, change: TakeCertificates) -> None:
        table = tables.certificates
        own = update(table).where(table.c.device_id == change.device_id, table.c.state.in_(LIVE))
        self._connection.execute(own.where(table.c.pair != change.pair).values(state=CertificateState.SUPERSEDED))
        self._connection.execute(own.where(table.c.pair == change.pair).values(state=CertificateState.CURRENT))
        self._chains.pop(change.device_id, None)
        self._move("revocation")

    def _revoke_certificates(self, change: RevokeCertificates) -> None:
        table = tables.certificates
        own = update(table).where(table.c.device_id == change.device_id)
        self._connection.execute(own.values(state=CertificateState.REVOKED))
        self._chains.pop(change.device_id, None)
        self._move("revocation")

    def _cut(self, change: Cut) -> None:
        row = {"device_id": change.device_id, "kick": change.kick, "since": rows.stamp(change.since)}
        self._connection.execute(LATEST_CUT, row)

    def _bind_ftm(self, change: BindFtm) -> None:
        owner = self.ftm_owner(change.key)
        if owner is None:
            row = {"key": change.key, "device_id": change.device_id}
            self._connection.execute(insert(tables.ftm_bindings), row)
        elif owner != change.device_id:
            raise LocalMistake(f"FTM key {change.key}: bound to {owner}, not to {change.device_id}")

    def _put_command(self, change: PutCommand) -> None:
        self._commands[change.command.id] = change.command
        self._put_commands.add(change.command.id)

    def _count_refusal(self, change: CountRefusal) -> None:
        key = (change.principal, change.code)
        self._refusals[key] = (self._refusals.get(key, (0,))[0] + 1, change.at)

    def _add_audit(self, change: AddAudit) -> None:
        if self._links:
            last, head = self._links[-1].seq, self._links[-1].hash
        else:
            table = tables.audit
            row = self._first(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1))
            last, head = (0, GENESIS) if row is None else (row.seq, row.hash)
        self._links.append(follow(head, last + 1, change.entry))

    def _move(self, epoch: str) -> None:
        """Move an epoch by a random step: a number seen in a transaction that was rolled back never comes again."""
        self.epochs()
        if self._epochs is not None:
            self._epochs[epoch] += 1 + secrets.randbits(_STEP_BITS)
        self._moved.add(epoch)


def _sighting(device_id: DeviceId, at: datetime) -> Values:
    return {"device_id": device_id, "seen_at": rows.stamp(at)}


def _refusal(principal: str, code: Code, count: int, at: datetime) -> Values:
    return {"principal": principal, "code": code, "count": count, "last_at": rows.stamp(at)}


def _from_link(link: Link) -> Values:
    entry = link.entry
    return {
        "seq": link.seq,
        "at": rows.stamp(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "detail": entry.detail,
        "prev_hash": link.prev_hash,
        "hash": link.hash,
    }


def _require_unchanged(before: Device | None, device: Device) -> None:
    """K1: level and purpose of a record never change; until it is listed it holds a stranger's claim alone.

    Raises:
        LocalMistake: an act of ours would change them, or register for authentication below L1.
    """
    if device.state is State.REGISTERED and not may_serve(device.certification, device.purpose):
        raise LocalMistake(f"{device.id}: {device.purpose} at {device.certification}")
    if before is None or (before.state is State.PENDING and not before.listed):
        return
    if (before.certification, before.purpose) != (device.certification, device.purpose):
        raise LocalMistake(f"{device.id}: level or purpose of a record would change")
