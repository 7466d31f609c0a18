"""What a handler gets and what it returns. Handlers are pure: values in, a ``Turn`` out; run.py does the rest.

Source: deploy/decisions/0001 "How data flows".
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleetward_schemas.encryption import Encryption
from fleetward_schemas.envelope import Opened
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import Environment, SignedIdentity
from fleetward_schemas.jws import PublicKey
from fleetward_schemas.shapes import Body
from fleetward_schemas.topics import DeviceId
from fleetward_server.changes import Change
from fleetward_server.settings import LimitsTable
from fleetward_server.state import Certificate, Challenge, Command, Device
from fleetward_server.upgrade_state import Assignment, Upgrade


@dataclass(frozen=True, slots=True)
class Policy:
    """What the provider decided. listing: ``listed`` or ``open``; see enrol.py.

    by_hand: messages came in a bundle, so that nobody is on a line for having sent them.
    """

    listing: str
    environment: Environment
    provider: str
    provider_id: str
    telemetry_s: int
    time_s: int
    radius_ms: int
    retry_after_s: int = 60
    encryption: tuple[Encryption, ...] = ()
    by_hand: bool = False
    limits: LimitsTable = LimitsTable()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whose key signed. key: the key; signer: its certificate's thumbprint; ftm: the key is an anchored FTM's.

    certificate: the row of the device certificate that signed; None for factory and FTM keys.
    not_after: when the signer's certificate ends.
    """

    key: PublicKey
    signer: str
    not_after: datetime
    ftm: bool = False
    certificate: Certificate | None = None
    leniencies: tuple[str, ...] = ()


class Said(NamedTuple):
    """One admitted message: its envelope held, its number was new (or needs none), its body has its kind's shape."""

    opened: Opened
    body: Body
    device_id: DeviceId
    speaker: Speaker
    identity: SignedIdentity
    arrived_at: datetime

    @property
    def id(self) -> str:
        """The message's id."""
        return self.opened.members.id

    @property
    def digital_id(self) -> str:
        """The signed digital ID as it came."""
        return self.opened.members.digitalId


class Known(NamedTuple):
    """What the store knows that this message touches, read in the batch's own transaction.

    ftm_owner: whose FTM key the speaker's key is. challenge: the one this hello got, or whose nonce this enrol brings.
    chains: the device's issued and current certificates. taken_keys: which of the CSRs' keys are anywhere in the fleet.
    assignment: the one that a progress speaks of; counts: the version of the one that counts, 0 for none; upgrade: how
    far what it speaks of got by earlier words.
    random: 32 fresh bytes, since a pure function cannot make its own.
    """

    device: Device | None
    model_approved: bool = False
    ftm_owner: DeviceId | None = None
    challenge: Challenge | None = None
    chains: tuple[Certificate, ...] = ()
    taken_keys: frozenset[str] = frozenset()
    command: Command | None = None
    assignment: Assignment | None = None
    counts: int = 0
    upgrade: Upgrade | None = None
    random: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to one principal, sealed and sent after the commit. in_reply_to: the id it answers."""

    topic: str
    body: Body
    digital_id: str
    in_reply_to: str | None = None
    expires: datetime | None = None
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class IssuePair:
    """Effect: have the authority certify two keys; its answer comes back as ``Issued``.

    pair: the id of the message that asked. not_before_floor: the new ones begin no earlier.
    """

    device_id: DeviceId
    pair: str
    device_key: PublicKey
    transport_key: PublicKey
    not_before_floor: datetime | None


@dataclass(frozen=True, slots=True)
class Issued:
    """Event: the two certificates, device first."""

    effect: IssuePair
    certificates: tuple[Certificate, Certificate]


class Turn(NamedTuple):
    """What one message makes happen.

    acks: ids to be named in the device's next ``ack``; refused: (id, code) pairs for it.
    """

    changes: tuple[Change, ...] = ()
    replies: tuple[Reply, ...] = ()
    effects: tuple[IssuePair, ...] = ()
    acks: tuple[str, ...] = ()
    refused: tuple[tuple[str, Code], ...] = ()
