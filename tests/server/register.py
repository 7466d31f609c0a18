"""Rows for a store: devices, certificates, reports and commands without any cryptography."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification, DigitalId, Purpose, device_id
from fleetward_server.changes import Change, PutDevice
from fleetward_server.state import AuditEntry, Certificate, CertificateState, Challenge, Command, Device, Report, Use
from fleetward_server.store import Store, open_store

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


def made(folder: Path) -> Store:
    """Return a fresh store in ``folder``."""
    return open_store(folder / "server.db", create=True)


def half_done(store: Store, *changes: Change) -> None:
    """Make changes in a unit that then fails."""
    with store.unit() as unit:
        unit.apply(changes)
        raise ValueError("halfway")


def identity(number: int = 1, **changes: str) -> DigitalId:
    """Return the identity of device ``number``."""
    fields = {
        "serialNo": f"SN-{number:04d}",
        "make": "Acme",
        "model": "Slap-4",
        "type": "Finger",
        "deviceSubType": "Slap",
        "deviceProvider": "Acme Ltd",
        "deviceProviderId": "acme",
        "dateTime": "2026-05-01T00:00:00Z",
    }
    return DigitalId.read(fields | changes)


def device(number: int = 1, **changes: object) -> Device:
    """Return registered device ``number``."""
    who = identity(number)
    row = Device(device_id(who), State.REGISTERED, Certification.L1, Purpose.REGISTRATION, who, created_at=NOW)
    return replace(row, **changes)  # type: ignore[arg-type]


FIRST = device().id


def kept(store: Store, *devices: Device) -> Store:
    """Return ``store`` once it holds ``devices``."""
    with store.unit() as unit:
        unit.apply(PutDevice(one) for one in devices)
    return store


def certificate(name: str, pair: str = "pair", use: Use = Use.DEVICE, **changes: object) -> Certificate:
    """Return a certificate of the first device, told apart by ``name``."""
    row = Certificate(
        thumbprint=name,
        device_id=FIRST,
        use=use,
        state=CertificateState.ISSUED,
        serial=2**159 + sum(name.encode()),
        key_thumbprint=f"key of {name}",
        pair=pair,
        not_before=NOW,
        not_after=NOW + HOUR,
        der=name.encode(),
        authority=b"CA",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def both(pair: str) -> tuple[Certificate, Certificate]:
    """Return a device certificate and its transport twin."""
    return certificate(f"device {pair}", pair), certificate(f"transport {pair}", pair, Use.TRANSPORT)


def report(number: int, device_number: int = 1, kind: str = "telemetry", received_at: datetime = NOW) -> Report:
    """Return report ``number`` of a device."""
    text = f"01900000-0000-7000-8000-{number:012d}"
    return Report(device(device_number).id, text, kind, NOW, received_at, '{"readings":[]}')


def command(number: int = 1, step: Step = Step.QUEUED, **changes: object) -> Command:
    """Return command ``number`` to the first device."""
    text = f"01900000-0000-7000-8000-{number:012d}"
    row = Command(text, FIRST, "sync-time", "{}", step, "operator:eve", "", NOW, NOW + HOUR)
    return replace(row, **changes)  # type: ignore[arg-type]


def challenge(**changes: object) -> Challenge:
    """Return an unused challenge."""
    row = Challenge(f"f-{FIRST}", "hello", "device nonce", "server nonce", "signer", NOW + HOUR)
    return replace(row, **changes)  # type: ignore[arg-type]


def entry(action: str = "approved", **changes: str) -> AuditEntry:
    """Return something somebody did."""
    return replace(AuditEntry(NOW, "operator:eve", action, FIRST, "because"), **changes)  # type: ignore[arg-type]
