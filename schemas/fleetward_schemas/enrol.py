"""Enrolment: how a device that nobody touched proves itself and gets its certificates; the device's life as a table.

``hello`` asks, ``challenge`` gives a nonce, ``enrol`` brings two keys, ``enrolled`` brings two chains or a reason.
Source: C1, C3, S1, S5; protocol section 5 "First contact".
"""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.shapes import ChainOfDer, Der, Digest, DownBody, Name, Unlawful, UpBody, Word

CHALLENGE_LIFE_S = 600
PROTOCOL = 1


class Reason(StrEnum):
    """Why an enrolment is pending or refused: the whole list, free text is never sent."""

    NOT_LISTED = "not-listed"
    AWAITING_APPROVAL = "awaiting-approval"
    MODEL_NOT_APPROVED = "model-not-approved"
    COMPLIANCE_LEVEL = "compliance-level"
    MISMATCH = "mismatch"
    CLONE = "clone"
    REFUSED_BY_OPERATOR = "refused-by-operator"
    RETIRED = "retired"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    CHALLENGE_EXPIRED = "challenge-expired"
    BAD_CSR = "bad-csr"
    PROTOCOL = "protocol"
    BUSY = "authority-busy"


class Hello(UpBody, frozen=True):
    """The first word of a device.

    nonce: 32 fresh random bytes. protocol: wire versions spoken, oldest first.
    current: thumbprint of the device certificate held; null when none is.
    """

    nonce: Digest
    certification: Certification
    purpose: Purpose
    protocol: Annotated[list[Annotated[int, Meta(ge=1, le=999)]], Meta(min_length=1, max_length=8)]
    agentVersion: Name  # noqa: N815
    current: Digest | None = None


class Settings(DownBody, frozen=True):
    """How often to speak. telemetryS: seconds between reports; timeS: at least, between time questions."""

    telemetryS: Annotated[int, Meta(ge=1, le=86400)]  # noqa: N815
    timeS: Annotated[int, Meta(ge=10, le=86400)]  # noqa: N815


class Challenge(DownBody, frozen=True):
    """The server's nonce, bound to (principal, hello id), good once and for 10 minutes."""

    nonce: Digest
    serverNonce: Digest  # noqa: N815
    settings: Settings


class Enrol(UpBody, frozen=True):
    """Two certification requests (PKCS#10, base64 DER) over keys that are new to the fleet and differ."""

    serverNonce: Digest  # noqa: N815
    deviceCsr: Der  # noqa: N815
    transportCsr: Der  # noqa: N815


class Enrolled(DownBody, frozen=True, kw_only=True):
    """The answer. reason: null unless pending or refused. retryAfterS: when to ask again; null when registered.

    deviceCode: absent until the register outside has answered.
    """

    status: Literal["registered", "pending", "refused"]
    reason: Word | None = None
    retryAfterS: Annotated[int, Meta(ge=1, le=604800)] | None = None  # noqa: N815
    deviceChain: ChainOfDer | None = None  # noqa: N815
    transportChain: ChainOfDer | None = None  # noqa: N815
    deviceCode: Name | None = None  # noqa: N815
    env: Environment

    def __post_init__(self) -> None:
        registered = self.status == "registered"
        chains = {self.deviceChain is not None, self.transportChain is not None}
        if chains != {registered} or (self.reason is None) != registered:
            raise Unlawful("registered brings both chains and no reason, anything else a reason and no chain")


class State(StrEnum):
    """Where a device stands in the provider's register."""

    PENDING = "pending"
    APPROVED = "approved"
    REGISTERED = "registered"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    REVOKED = "revoked"
    RETIRED = "retired"


class Event(StrEnum):
    """What moves a device in the register."""

    APPROVE = "approve"
    REFUSE = "refuse"
    CERTIFY = "certify"
    REVOKE = "revoke"
    RETIRE = "retire"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    REINSTATE = "reinstate"


NEXT: dict[State, dict[Event, State]] = {
    State.PENDING: {Event.APPROVE: State.APPROVED, Event.REFUSE: State.REFUSED},
    State.APPROVED: {Event.CERTIFY: State.REGISTERED, Event.REFUSE: State.REFUSED, Event.REVOKE: State.REVOKED},
    State.REGISTERED: {
        Event.CERTIFY: State.REGISTERED,
        Event.APPROVE: State.REGISTERED,
        Event.REVOKE: State.REVOKED,
        Event.RETIRE: State.RETIRED,
        Event.QUARANTINE: State.QUARANTINED,
    },
    State.QUARANTINED: {
        Event.RELEASE: State.REGISTERED,
        Event.REVOKE: State.REVOKED,
        Event.RETIRE: State.RETIRED,
    },
    State.REFUSED: {Event.APPROVE: State.APPROVED},
    State.REVOKED: {Event.REINSTATE: State.APPROVED},
    State.RETIRED: {Event.REINSTATE: State.APPROVED},
}


def advance(state: State, event: Event) -> State:
    """Return the state after ``event``.

    Raises:
        LocalMistake: the table has no such step; ask ``may_advance`` first.
    """
    try:
        return NEXT[state][event]
    except KeyError:
        raise LocalMistake(f"{event} while {state}") from None


def may_advance(state: State, event: Event) -> bool:
    """Say whether the table has the step."""
    return event in NEXT[state]
