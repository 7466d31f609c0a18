"""Values to rows and back: one pair of functions per table, lossless.

The hot path reads a device per message, so texts that repeat (identities, checklists, tags) are parsed once.
Source: state.py, whose order of fields stands here again.
"""

import json
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.foreign import Leniency
from fleetward_schemas.identity import Certification, DigitalId, Purpose
from fleetward_schemas.moment import EPOCH
from fleetward_schemas.replay import WIDTH, ReplayWindow
from fleetward_schemas.strict import read_object
from fleetward_schemas.topics import DeviceId
from fleetward_server.changes import PutWindow
from fleetward_server.state import (
    AuditEntry,
    Certificate,
    CertificateState,
    Challenge,
    Check,
    Command,
    Device,
    FtmRoot,
    Item,
    Model,
    Presence,
    Report,
    Use,
)

TEXTS_KEPT = 16_384
TAG_SEPARATOR = ";"
WINDOW_BYTES = WIDTH // 8
MICROSECOND = timedelta(microseconds=1)
Values = dict[str, Any]
AnyRow = Row[Any]


def stamp(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def moment(us: int) -> datetime:
    """Return the aware UTC moment of ``us`` microseconds since 1970."""
    return EPOCH + timedelta(microseconds=us)


def maybe_stamp(at: datetime | None) -> int | None:
    """Return ``stamp(at)``, None for None."""
    return None if at is None else stamp(at)


def maybe_moment(us: int | None) -> datetime | None:
    """Return ``moment(us)``, None for None."""
    return None if us is None else moment(us)


def from_device(device: Device) -> Values:
    """Return a device's row without its sighting and tags, which have their own tables."""
    return {
        "id": device.id,
        "state": device.state,
        "certification": device.certification,
        "purpose": device.purpose,
        "identity": device.identity.json(),
        "serial": device.identity.serialNo,
        "model": device.identity.model,
        "listed": device.listed,
        "ftm_key": device.ftm_key,
        "asking_key": device.asking_key,
        "approved_key": device.approved_key,
        "enrolments": device.enrolments,
        "reissue": device.reissue,
        "digital_id": device.digital_id,
        "previous_digital_id": device.previous_digital_id,
        "hello_digital_id": device.hello_digital_id,
        "hello_id": device.hello_id,
        "session": device.session,
        "presence": device.presence,
        "presence_at": maybe_stamp(device.presence_at),
        "agent_version": device.agent_version,
        "reason": device.reason,
        "checklist": json.dumps([[c.item, c.held, c.reason, *c.excused] for c in device.checklist]),
        "device_code": device.device_code,
        "device_info": device.device_info,
        "retire_at": maybe_stamp(device.retire_at),
        "created_at": maybe_stamp(device.created_at),
        "changed_at": maybe_stamp(device.changed_at),
    }


def to_device(row: AnyRow) -> Device:
    """Read a row of ``devices`` joined with its sighting and tags."""
    return Device(
        id=row.id,
        state=State(row.state),
        certification=Certification(row.certification),
        purpose=Purpose(row.purpose),
        identity=_identity(row.identity),
        listed=row.listed,
        ftm_key=row.ftm_key,
        asking_key=row.asking_key,
        approved_key=row.approved_key,
        enrolments=row.enrolments,
        reissue=row.reissue,
        digital_id=row.digital_id,
        previous_digital_id=row.previous_digital_id,
        hello_digital_id=row.hello_digital_id,
        hello_id=row.hello_id,
        session=row.session,
        presence=Presence(row.presence),
        presence_at=maybe_moment(row.presence_at),
        seen_at=maybe_moment(row.seen_at),
        agent_version=row.agent_version,
        reason=None if row.reason is None else Reason(row.reason),
        checklist=_checklist(row.checklist),
        tags=_tags(row.tags),
        device_code=row.device_code,
        device_info=row.device_info,
        retire_at=maybe_moment(row.retire_at),
        created_at=maybe_moment(row.created_at),
        changed_at=maybe_moment(row.changed_at),
    )


@lru_cache(maxsize=TEXTS_KEPT)
def _identity(text: str) -> DigitalId:
    return DigitalId.read(read_object(text.encode()))


@lru_cache(maxsize=TEXTS_KEPT)
def _checklist(text: str) -> tuple[Check, ...]:
    return tuple(
        Check(Item(item), bool(held), None if reason is None else Reason(reason), tuple(excused))
        for item, held, reason, *excused in json.loads(text)
    )


def from_tags(device: Device) -> list[Values]:
    """Return the rows of a device's tags."""
    return [{"tag": tag, "device_id": device.id} for tag in device.tags]


@lru_cache(maxsize=TEXTS_KEPT)
def _tags(text: str | None) -> tuple[str, ...]:
    """Read what ``lookups.ALL_DEVICES`` gathers; no tag holds a semicolon."""
    return tuple(sorted(text.split(TAG_SEPARATOR))) if text else ()


def from_window(kept: PutWindow) -> Values:
    """Return a window's row."""
    return {
        "signer": kept.signer,
        "topic": kept.topic,
        "highest": kept.window.highest,
        "seen": kept.window.seen.to_bytes(WINDOW_BYTES, "big"),
        "expires_at": stamp(kept.expires_at),
    }


def to_window(row: AnyRow) -> ReplayWindow:
    """Read a window."""
    return ReplayWindow(row.highest, int.from_bytes(row.seen, "big"))


def from_report(report: Report) -> Values:
    """Return a report's row; its number is the database's."""
    return {
        "device_id": report.device_id,
        "id": report.id,
        "kind": report.kind,
        "at": stamp(report.at),
        "received_at": stamp(report.received_at),
        "body": report.body,
    }


def to_report(row: AnyRow) -> Report:
    """Read a report."""
    return Report(DeviceId(row.device_id), row.id, row.kind, moment(row.at), moment(row.received_at), row.body)


def from_certificate(certificate: Certificate) -> Values:
    """Return a certificate's row. A serial has up to 160 bits, more than an integer column."""
    return {
        "thumbprint": certificate.thumbprint,
        "device_id": certificate.device_id,
        "use": certificate.use,
        "state": certificate.state,
        "serial": f"{certificate.serial:x}",
        "key_thumbprint": certificate.key_thumbprint,
        "pair": certificate.pair,
        "not_before": stamp(certificate.not_before),
        "not_after": stamp(certificate.not_after),
        "der": certificate.der,
        "authority": certificate.authority,
    }


def to_certificate(row: AnyRow) -> Certificate:
    """Read a certificate."""
    return Certificate(
        thumbprint=row.thumbprint,
        device_id=DeviceId(row.device_id),
        use=Use(row.use),
        state=CertificateState(row.state),
        serial=int(row.serial, 16),
        key_thumbprint=row.key_thumbprint,
        pair=row.pair,
        not_before=moment(row.not_before),
        not_after=moment(row.not_after),
        der=row.der,
        authority=row.authority,
    )


def from_challenge(challenge: Challenge) -> Values:
    """Return a challenge's row."""
    used = challenge.used_by or (None, None)
    return {
        "principal": challenge.principal,
        "hello_id": challenge.hello_id,
        "device_nonce": challenge.device_nonce,
        "server_nonce": challenge.server_nonce,
        "signer_key": challenge.signer_key,
        "expires_at": stamp(challenge.expires_at),
        "used_device_key": used[0],
        "used_transport_key": used[1],
    }


def to_challenge(row: AnyRow) -> Challenge:
    """Read a challenge."""
    used = None if row.used_device_key is None else (row.used_device_key, row.used_transport_key)
    return Challenge(
        row.principal, row.hello_id, row.device_nonce, row.server_nonce, row.signer_key, moment(row.expires_at), used
    )


def from_command(command: Command) -> Values:
    """Return a command's row."""
    return {
        "id": command.id,
        "device_id": command.device_id,
        "verb": command.verb,
        "params": command.params,
        "step": command.step,
        "actor": command.actor,
        "reason": command.reason,
        "created_at": stamp(command.created_at),
        "expires_at": stamp(command.expires_at),
        "sent_at": maybe_stamp(command.sent_at),
        "changed_at": maybe_stamp(command.changed_at),
        "last_reason": command.last_reason,
    }


def to_command(row: AnyRow) -> Command:
    """Read a command."""
    return Command(
        id=row.id,
        device_id=DeviceId(row.device_id),
        verb=row.verb,
        params=row.params,
        step=Step(row.step),
        actor=row.actor,
        reason=row.reason,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        sent_at=maybe_moment(row.sent_at),
        changed_at=maybe_moment(row.changed_at),
        last_reason=row.last_reason,
    )


def to_model(row: AnyRow) -> Model:
    """Read a model."""
    return Model(row.provider_id, row.make, row.model, row.type, row.sub_type, row.approved)


def to_ftm_root(row: AnyRow) -> FtmRoot:
    """Read an FTM provider's anchor."""
    return FtmRoot(row.thumbprint, row.name, row.der, row.trusted, tuple(map(Leniency, row.leniencies.split())))


def to_entry(row: AnyRow) -> AuditEntry:
    """Read an audit row without its place in the chain."""
    return AuditEntry(moment(row.at), row.actor, row.action, row.subject, row.reason, row.detail)
