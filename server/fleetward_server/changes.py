"""What a turn may change, each one thing that happened; all of a batch is applied in its one transaction.

Those of upgrades stand beside their values, in ``upgrade_state.py``. Source: protocol section 5.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleetward_schemas.errors import Code
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import AuditEntry, Certificate, Challenge, Command, Device, Report
from fleetward_server.upgrade_state import UpgradeChange


@dataclass(frozen=True, slots=True)
class PutDevice:
    """Insert or replace a device's row."""

    device: Device


class Seen(NamedTuple):
    """A verified message came: the cheap change of the hot path."""

    device_id: DeviceId
    at: datetime


class PutWindow(NamedTuple):
    """Keep the replay window of one signer on one topic until the signer's certificate ends."""

    signer: str
    topic: str
    window: ReplayWindow
    expires_at: datetime


class AddReport(NamedTuple):
    """Store a report once."""

    report: Report


@dataclass(frozen=True, slots=True)
class PutChallenge:
    """Insert or replace a challenge."""

    challenge: Challenge


@dataclass(frozen=True, slots=True)
class AddCertificates:
    """Keep a freshly issued pair."""

    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class TakeCertificates:
    """Make a pair current and supersede every other certificate of the device that was."""

    device_id: DeviceId
    pair: str


@dataclass(frozen=True, slots=True)
class RevokeCertificates:
    """Every certificate of the device ceases to count, whatever it was."""

    device_id: DeviceId


@dataclass(frozen=True, slots=True)
class Cut:
    """The broker is to be told: certificates of this device count no more. kick: its connection is to end too."""

    device_id: DeviceId
    kick: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class BindFtm:
    """Bind an FTM key to a device for ever."""

    key: str
    device_id: DeviceId


@dataclass(frozen=True, slots=True)
class PutCommand:
    """Insert or replace a command."""

    command: Command


@dataclass(frozen=True, slots=True)
class CountRefusal:
    """Count one refused message of a principal; the only thing an unverified message can move."""

    principal: str
    code: Code
    at: datetime


@dataclass(frozen=True, slots=True)
class AddAudit:
    """Append to the audit chain."""

    entry: AuditEntry


Change = (
    PutDevice
    | Seen
    | PutWindow
    | AddReport
    | PutChallenge
    | AddCertificates
    | TakeCertificates
    | RevokeCertificates
    | Cut
    | BindFtm
    | PutCommand
    | CountRefusal
    | AddAudit
    | UpgradeChange
)
