"""The checklist of an enrolment: what is looked at, in which order, and what each failure means.

What a device claims is held against the provider's record; the first item that fails decides, and the list is kept for
whoever asks why. Source: S1, C3, K1; protocol section 1 ("never from what it claims") and section 5.
"""

from dataclasses import dataclass, replace

from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.identity import Certification, Purpose, may_serve
from fleetward_server.state import Check, Device, Item
from fleetward_server.turn import Known, Policy, Said

GONE = {
    State.RETIRED: Reason.RETIRED,
    State.REVOKED: Reason.REVOKED,
    State.QUARANTINED: Reason.QUARANTINED,
    State.REFUSED: Reason.REFUSED_BY_OPERATOR,
}
WAITING = frozenset({Reason.NOT_LISTED, Reason.AWAITING_APPROVAL})


@dataclass(frozen=True, slots=True)
class Claim:
    """What a hello says of its device."""

    certification: Certification
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Judgement:
    """The device as it stands after looking, its checklist inside. reason: None when it may be certified."""

    device: Device
    reason: Reason | None


def judge(said: Said, known: Known, policy: Policy, claim: Claim) -> Judgement:
    """Go through the checklist; the first item that fails decides."""
    record = known.device
    if record is not None and record.state in GONE:
        return Judgement(record, GONE[record.state])
    device = record or _newcomer(said, policy, claim)
    checks: list[Check] = []
    for item, reason in _items(said, known, device, claim):
        checks.append(Check(item, reason is None, reason, said.speaker.leniencies if item is Item.FTM else ()))
        if reason is not None:
            break
    reason = checks[-1].reason
    asking = key_thumbprint(said.speaker.key)
    waits = reason in WAITING
    device = replace(
        device,
        checklist=tuple(checks),
        reason=reason,
        asking_key=asking if waits else device.asking_key,
        changed_at=said.arrived_at if device.reason != reason else device.changed_at,
    )
    return Judgement(device, reason)


def _items(said: Said, known: Known, device: Device, claim: Claim) -> list[tuple[Item, Reason | None]]:
    ftm_key = key_thumbprint(said.speaker.key) if said.speaker.ftm else None
    return [
        (Item.IDENTITY, None if device.identity.same_device(said.identity.digital_id) else Reason.MISMATCH),
        (Item.LEVEL, _level(said, device, claim)),
        (Item.PURPOSE, None if claim.purpose is device.purpose else Reason.MISMATCH),
        (Item.MODEL, None if known.model_approved else Reason.MODEL_NOT_APPROVED),
        (Item.FTM, _clone(known, device, ftm_key)),
        (Item.LISTED, Reason.NOT_LISTED if device.state is State.PENDING and not device.listed else None),
        (Item.APPROVED, _approval(said, device)),
    ]


def _level(said: Said, device: Device, claim: Claim) -> Reason | None:
    """K1 and C3: the level is the record's, and an L1 proves itself by its FTM, an L0 by its factory key."""
    if claim.certification is not device.certification:
        return Reason.MISMATCH
    if said.speaker.ftm is not (device.certification is Certification.L1):
        return Reason.MISMATCH
    return None if may_serve(device.certification, device.purpose) else Reason.COMPLIANCE_LEVEL


def _clone(known: Known, device: Device, ftm_key: str | None) -> Reason | None:
    """An FTM's key belongs to one device id for ever, and a device id to one FTM key."""
    if ftm_key is None:
        return None
    if known.ftm_owner not in {None, device.id} or device.ftm_key not in {None, ftm_key}:
        return Reason.CLONE
    return None


def _approval(said: Said, device: Device) -> Reason | None:
    """An L0 enrols by itself once; after that, and without a listing, an operator approves that very key."""
    key = key_thumbprint(said.speaker.key)
    if device.approved_key is not None:
        return None if device.approved_key == key else Reason.AWAITING_APPROVAL
    if device.state is State.PENDING:
        return Reason.AWAITING_APPROVAL
    again = device.certification is Certification.L0 and device.enrolments > 0
    return Reason.AWAITING_APPROVAL if again and not device.reissue else None


def _newcomer(said: Said, policy: Policy, claim: Claim) -> Device:
    """Make the row of a device nobody listed. ``open``: a proven FTM is enough; an L0 always waits."""
    proven = policy.listing == "open" and said.speaker.ftm
    return Device(
        id=said.device_id,
        state=State.APPROVED if proven else State.PENDING,
        certification=claim.certification,
        purpose=claim.purpose,
        identity=said.identity.digital_id,
        created_at=said.arrived_at,
        changed_at=said.arrived_at,
    )
