"""The values the server keeps. Rows in, rows out: no behaviour, no database; ``changes.py`` has what may change them.

Source: S5 (central repository of approved devices), protocol section 5.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.foreign import Leniency
from fleetward_schemas.identity import Certification, DigitalId, Purpose
from fleetward_schemas.topics import DeviceId


class Presence(StrEnum):
    """Availability as last told; never evidence."""

    NEVER = "never"
    ONLINE = "online"
    OFFLINE = "offline"


class Use(StrEnum):
    """What an issued certificate is for."""

    DEVICE = "device"
    TRANSPORT = "transport"


class CertificateState(StrEnum):
    """``issued`` until the first ``online`` under it, then ``current`` until another takes its place."""

    ISSUED = "issued"
    CURRENT = "current"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


class Item(StrEnum):
    """The checklist of an enrolment, in the order it is gone through; a closed list."""

    IDENTITY = "identity"
    LEVEL = "level"
    PURPOSE = "purpose"
    MODEL = "model"
    FTM = "ftm"
    LISTED = "listed"
    APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a kept checklist. excused: what a chain from elsewhere lacked, by the words of ``Leniency``."""

    item: Item
    held: bool
    reason: Reason | None = None
    excused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """One row of the register.

    identity: the eight strings as the provider's list (or the first hello) has them. ftm_key: thumbprint of the FTM's
    SPKI, bound for ever at first enrolment; None at L0 and before it is known. asking_key: SPKI thumbprint of the key
    that last asked and waits for an operator; approved_key: the one an operator approved, good for one enrolment.
    listed: on the provider's list. enrolments: how many were certified. reissue: an operator marked it to enrol again.
    digital_id, previous_digital_id: signed texts; the current one is echoed in every downlink message.
    hello_digital_id, hello_id: of the last hello, echoed to the factory principal.
    retire_at: when a device that said its last word is put out; None while nothing is to be done.
    session: of the latest ``online``. changed_at: last change to the record itself; seen_at: last verified message.
    """

    id: DeviceId
    state: State
    certification: Certification
    purpose: Purpose
    identity: DigitalId
    listed: bool = False
    ftm_key: str | None = None
    asking_key: str | None = None
    approved_key: str | None = None
    enrolments: int = 0
    reissue: bool = False
    digital_id: str | None = None
    previous_digital_id: str | None = None
    hello_digital_id: str | None = None
    hello_id: str | None = None
    session: str | None = None
    presence: Presence = Presence.NEVER
    presence_at: datetime | None = None
    seen_at: datetime | None = None
    agent_version: str | None = None
    reason: Reason | None = None
    checklist: tuple[Check, ...] = ()
    tags: tuple[str, ...] = ()
    device_code: str | None = None
    device_info: str | None = None
    retire_at: datetime | None = None
    created_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate we issued. pair: the request that made it and its twin. der, authority: leaf and its CA."""

    thumbprint: str
    device_id: DeviceId
    use: Use
    state: CertificateState
    serial: int
    key_thumbprint: str
    pair: str
    not_before: datetime
    not_after: datetime
    der: bytes
    authority: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce given to one hello of one principal. used_by: key thumbprints of the two CSRs that used it."""

    principal: str
    hello_id: str
    device_nonce: str
    server_nonce: str
    signer_key: str
    expires_at: datetime
    used_by: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One stored report of a device; stored once per (device, id). body: canonical JSON text, already in its shape."""

    device_id: DeviceId
    id: str
    kind: str
    at: datetime
    received_at: datetime
    body: str


@dataclass(frozen=True, slots=True)
class Command:
    """One order to one device. last_reason: the device's own word. sent_at: last publish, None while queued."""

    id: str
    device_id: DeviceId
    verb: str
    params: str
    step: Step
    actor: str
    reason: str
    created_at: datetime
    expires_at: datetime
    sent_at: datetime | None = None
    changed_at: datetime | None = None
    last_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A make and model of a provider that may be registered."""

    provider_id: str
    make: str
    model: str
    type: str
    sub_type: str
    approved: bool


@dataclass(frozen=True, slots=True)
class FtmRoot:
    """An FTM provider's anchor. name: the operator's word for it. leniencies: what its chains may lack."""

    thumbprint: str
    name: str
    der: bytes
    trusted: bool
    leniencies: tuple[Leniency, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing somebody did, chained by the store. actor: ``operator:<name>``, ``device:<id>`` or ``server``."""

    at: datetime
    actor: str
    action: str
    subject: str
    reason: str = ""
    detail: str = ""
