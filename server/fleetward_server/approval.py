"""What an operator may decide about one device; pure: the record in, the record out, or why not.

What is approved is a key, the one that asked: an approval is never a blank cheque for the next asker.
Source: S5, C3; protocol section 5 "First contact".
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from fleetward_schemas.enrol import Event, Reason, State, advance, may_advance
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Device, Presence

TAGS_MOST = 32
_TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}", re.ASCII)
_HAS_KEYS = frozenset({State.APPROVED, State.REGISTERED})
_WAITING = frozenset({Reason.NOT_LISTED, Reason.AWAITING_APPROVAL})


def approve(device: Device, now: datetime, key: str | None = None) -> Device:
    """Approve a device that waits, with the key it asked by. key: refuse unless just this key asked.

    Raises:
        OperatorProblem: ``conflict``: nothing waits, another key asked, or the device is out for good.
    """
    if key is not None and device.asking_key != key:
        raise _conflict(device, f"asked with key {device.asking_key or 'none'}, not {key}")
    if device.state in _HAS_KEYS and not _another_key_waits(device):
        raise _conflict(device, f"is {device.state}; nothing waits for approval")
    if device.state not in _HAS_KEYS and not may_advance(device.state, Event.APPROVE):
        raise _conflict(device, f"is {device.state} for good")
    if device.asking_key is None and not device.listed:
        raise _conflict(device, f"is held for {device.reason or 'no reason'}; no key of it waits for approval")
    state = advance(device.state, Event.APPROVE) if may_advance(device.state, Event.APPROVE) else device.state
    return replace(device, state=state, approved_key=device.asking_key, changed_at=now)


def refuse(device: Device, now: datetime) -> Device:
    """Refuse a device that waits; of a registered one, only the key that asks to replace its own.

    Raises:
        OperatorProblem: ``conflict``: already refused, or nothing to refuse.
    """
    if may_advance(device.state, Event.REFUSE):
        state = advance(device.state, Event.REFUSE)
        return replace(device, state=state, approved_key=None, reason=Reason.REFUSED_BY_OPERATOR, changed_at=now)
    if device.state is State.REGISTERED and _another_key_waits(device):
        return replace(device, asking_key=None, approved_key=None, reason=None, changed_at=now)
    already = "already refused" if device.state is State.REFUSED else f"{device.state}; nothing waits"
    raise _conflict(device, f"is {already}")


def revoke(device: Device, now: datetime) -> Device:
    """Put a device out for good; one that is revoked already stays as it is.

    Raises:
        OperatorProblem: ``conflict``: it has nothing that could be revoked.
    """
    if device.state is State.REVOKED:
        return device
    if not may_advance(device.state, Event.REVOKE):
        raise _conflict(device, f"is {device.state}; there is nothing to revoke")
    return replace(
        device,
        state=advance(device.state, Event.REVOKE),
        reason=Reason.REVOKED,
        asking_key=None,
        approved_key=None,
        presence=Presence.OFFLINE if device.presence is Presence.ONLINE else device.presence,
        presence_at=now if device.presence is Presence.ONLINE else device.presence_at,
        changed_at=now,
    )


def quarantine(device: Device, now: datetime) -> Device:
    """Let a device report and do nothing else.

    Raises:
        OperatorProblem: ``conflict``: it is not registered.
    """
    return _moved(device, Event.QUARANTINE, now, reason=Reason.QUARANTINED)


def release(device: Device, now: datetime) -> Device:
    """End a quarantine.

    Raises:
        OperatorProblem: ``conflict``: it is in none.
    """
    return _moved(device, Event.RELEASE, now, reason=None)


def reinstate(device: Device, now: datetime) -> Device:
    """Let a revoked or retired device ask anew: an L1 is certified by its FTM, an L0 waits for approval of its key.

    Raises:
        OperatorProblem: ``conflict``: it is neither.
    """
    return replace(_moved(device, Event.REINSTATE, now, reason=None), asking_key=None, approved_key=None)


def _moved(device: Device, event: Event, now: datetime, *, reason: Reason | None) -> Device:
    if not may_advance(device.state, event):
        raise _conflict(device, f"is {device.state}; there is nothing to {event}")
    return replace(device, state=advance(device.state, event), reason=reason, changed_at=now)


def retag(device: Device, add: Sequence[str], remove: Sequence[str], now: datetime) -> Device:
    """Put tags on a device and take tags off it; one that has them so already stays as it is.

    Raises:
        OperatorProblem: ``invalid``: a tag that is none, or too many.
    """
    for tag in (*add, *remove):
        check_tag(tag)
    tags = tuple(sorted((set(device.tags) | set(add)) - set(remove)))
    if len(tags) > TAGS_MOST:
        raise OperatorProblem(Kind.INVALID, f"{len(tags)} tags: at most {TAGS_MOST}")
    return device if tags == device.tags else replace(device, tags=tags, changed_at=now)


def check_tag(tag: str) -> None:
    """Refuse what is no tag.

    Raises:
        OperatorProblem: ``invalid``.
    """
    if not _TAG.fullmatch(tag):
        raise OperatorProblem(Kind.INVALID, f"tag {tag!r}: a-z 0-9 . _ : - only, at most 64, a letter or digit first")


def _another_key_waits(device: Device) -> bool:
    asked = device.asking_key is not None and device.asking_key != device.approved_key
    return asked and device.reason in _WAITING


def _conflict(device: Device, why: str) -> OperatorProblem:
    return OperatorProblem(Kind.CONFLICT, f"{device.id} {why}")
