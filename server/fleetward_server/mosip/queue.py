"""What MOSIP is still to be told: tasks, one open at a time for a device, and what comes next, as tables.

A task is made by comparing the register with what was told before, so that none can be forgotten: nothing has to
remember to queue one. It is durable, sent any number of times, and done once: MOSIP says itself what it knows already.
Source: S2; MOSIP's window for the moment in deviceInfo (-2/+5 minutes) is why that is asked for anew.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward_schemas.commands import Step, Verb
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.topics import DeviceId
from fleetward_server.mosip.settings import Profile
from fleetward_server.state import Command

ACTOR = "server"
GONE = frozenset({State.REVOKED, State.RETIRED})
AGAIN_FIRST_S, AGAIN_MOST_S = 5.0, 300.0
ASK_LIFE = timedelta(minutes=5)
"""How long a device has to send fresh device info before it is asked again."""
MOST_UNKNOWN = 8
"""How often an answer with a code that nobody documented is taken for a passing trouble."""


class Act(StrEnum):
    """What is told."""

    REGISTER = "register"
    DEREGISTER = "deregister"
    HOTLIST = "hotlist"
    UNBLOCK = "unblock"


class TaskState(StrEnum):
    """Where a task stands. ``asking``: the device was asked for fresh device info. ``dropped``: no more to be told."""

    WAITING = "waiting"
    ASKING = "asking"
    DONE = "done"
    DEAD = "dead"
    DROPPED = "dropped"


class TaskEvent(StrEnum):
    """What moves a task. ``refuse``: MOSIP will not have it as it is; an operator's ``retry`` is the way back."""

    ASK = "ask"
    AGAIN = "again"
    DONE = "done"
    REFUSE = "refuse"
    DROP = "drop"
    RETRY = "retry"


_OPEN = {TaskEvent.ASK: TaskState.ASKING, TaskEvent.AGAIN: TaskState.WAITING, TaskEvent.DONE: TaskState.DONE}
_OPEN |= {TaskEvent.REFUSE: TaskState.DEAD, TaskEvent.DROP: TaskState.DROPPED}
NEXT: dict[TaskState, dict[TaskEvent, TaskState]] = {
    TaskState.WAITING: dict(_OPEN),
    TaskState.ASKING: dict(_OPEN),
    TaskState.DONE: {},
    TaskState.DEAD: {TaskEvent.RETRY: TaskState.WAITING, TaskEvent.DROP: TaskState.DROPPED},
    TaskState.DROPPED: {},
}
OPEN = frozenset({TaskState.WAITING, TaskState.ASKING})


PRESENT = frozenset({Act.REGISTER, Act.UNBLOCK})
"""What is told of a device that is in use here."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to tell. number: 0 before it is stored. asked: id of the command that asked for device info.

    attempts: how often it was sent; refusals: how often it was answered with an error. code, detail: of the last
    answer. device_code: what MOSIP calls the device.
    """

    number: int
    device_id: DeviceId
    profile: Profile
    act: Act
    state: TaskState
    next_at: datetime
    created_at: datetime
    changed_at: datetime
    attempts: int = 0
    refusals: int = 0
    asked: str | None = None
    code: str | None = None
    detail: str | None = None
    device_code: str | None = None


def advance(task: Task, event: TaskEvent, now: datetime, **changes: object) -> Task:
    """Return the task after ``event``.

    Raises:
        LocalMistake: the table has no such step.
    """
    state = NEXT[task.state].get(event)
    if state is None:
        raise LocalMistake(f"{event} while {task.state}")
    return replace(task, state=state, changed_at=now, **changes)  # type: ignore[arg-type]


def new_task(device_id: DeviceId, profile: Profile, act: Act, now: datetime, device_code: str | None = None) -> Task:
    """Return a task that is due at once."""
    return Task(0, device_id, profile, act, TaskState.WAITING, now, now, now, device_code=device_code)


@dataclass(frozen=True, slots=True)
class Due:
    """What a look at a device found. drop: the open task tells what is no longer so. act: what is to be told now."""

    drop: bool = False
    act: Act | None = None


def due(state: State, last: Task | None, profile: Profile) -> Due:
    """Compare the register with the last thing told of a device."""
    if state is State.REGISTERED:
        if last is not None and (last.act in PRESENT or last.state in OPEN):
            return Due()
        # Reinstated: MOSIP is to take it off its hotlist, or into its register again.
        return Due(act=Act.UNBLOCK if last is not None and last.act is Act.HOTLIST else Act.REGISTER)
    if state not in GONE:
        return Due()
    if profile is Profile.CRYPTO_ONLY:
        told = last is not None and last.act is Act.HOTLIST
        return Due() if told else Due(drop=last is not None and last.state in OPEN, act=Act.HOTLIST)
    if last is None or last.act is not Act.REGISTER or last.state in {TaskState.DEAD, TaskState.DROPPED}:
        return Due()
    if last.state in OPEN:
        # Sent and not answered is perhaps registered; never sent is surely not.
        return Due(drop=True, act=Act.DEREGISTER if last.attempts else None)
    return Due(act=Act.DEREGISTER)


def chance() -> float:
    """Draw for a wait: never at once, half of the full jitter at least."""
    return 0.5 + secrets.randbelow(500) / 1000


def collect_info(command_id: str, device_id: DeviceId, now: datetime) -> Command:
    """Return the order to a device to send fresh device info."""
    return Command(
        id=command_id,
        device_id=device_id,
        verb=Verb.COLLECT_INFO,
        params="{}",
        step=Step.QUEUED,
        actor=ACTOR,
        reason="for MOSIP",
        created_at=now,
        expires_at=now + ASK_LIFE,
    )
