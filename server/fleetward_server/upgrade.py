"""Upgrades at the server: what a device shall run goes to it until it is done; what it says moves its state.

Words are put in order by the assignment's version and then by the report's id, which rises at its sender: whatever the
order or the number of times they arrive in, the latest decides, and a counter that was committed never falls.
Source: S7, C8; wire, section "Upgrades" 4 and 8; C10: a name that the server did not say is not kept.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.topics import down
from fleetward_schemas.upgrade import AHEAD_MS, Hashes, Phase, Progress, Release, Window
from fleetward_schemas.upgrade import Assignment as AssignmentBody
from fleetward_server.changes import AddAudit, Change, CountRefusal, Seen
from fleetward_server.state import AuditEntry, Device, Presence
from fleetward_server.telemetry import stored
from fleetward_server.turn import Known, Policy, Reply, Said, Turn
from fleetward_server.upgrade_state import (
    Assignment,
    AssignmentSent,
    Committed,
    PutAssignment,
    PutUpgrade,
    TookAssignment,
    Upgrade,
    Wanted,
)

AGAIN = timedelta(minutes=10)
"""How long a device that is there may say nothing of an assignment before it is sent again."""
HELD = timedelta(minutes=1)
"""How long until it is looked again whether a device that may have none may have one now."""
TOLD = frozenset({Phase.COMMITTED, Phase.FAILED, Phase.REFUSED, Phase.LOCKED})
"""Phases that stand in the audit."""
SERVER = "server"


def next_version(now: datetime, taken: int, made: int) -> int:
    """Return the version of a device's next assignment: milliseconds of now, and above what it may have taken.

    taken: the highest that it spoke of; made: the highest made for it that is not further ahead of now than a device
    takes. What a clock that ran ahead made and no device spoke of binds nobody: the next one could not be taken either.
    """
    return max(to_ms(now), taken + 1, made + 1)


def could_be_taken(version: int, now: datetime) -> bool:
    """Say whether a device can have taken such a version by now."""
    return version <= to_ms(now) + AHEAD_MS


def on_progress(said: Said, known: Known, _: Policy) -> Turn:
    """Keep how far an upgrade got, and move its state if no later word came before.

    Raises:
        Refused: ``bad-body``: of no assignment that was made for this device, or of a name that it does not have.
    """
    body = said.body
    if not isinstance(body, Progress):
        raise LocalMistake("on_progress was given another kind")
    wanted = None if known.assignment is None else known.assignment.of(body.name)
    if wanted is None:
        return _unknown(said, body, known)
    behind = body.assignmentVersion > known.counts
    took = TookAssignment(said.device_id, body.assignmentVersion, said.arrived_at, behind)
    changes: list[Change] = [stored(said), Seen(said.device_id, said.arrived_at), took]
    changes += _moved(said, body, wanted, known.upgrade)
    return Turn(changes=tuple(changes), acks=(said.id,))


def _unknown(said: Said, body: Progress, known: Known) -> Turn:
    """Refuse it; a version above ours that can be true is remembered, for a restored register may have forgotten it.

    Raises:
        Refused: ``bad-body``.
    """
    version = body.assignmentVersion
    if known.assignment is not None or version <= known.counts or not could_be_taken(version, said.arrived_at):
        raise Refused(Code.BAD_BODY, f"no assignment {version} with this name was made for this device")
    changes = (
        CountRefusal(said.device_id, Code.BAD_BODY, said.arrived_at),
        TookAssignment(said.device_id, version, said.arrived_at, behind=True),
        Seen(said.device_id, said.arrived_at),
    )
    return Turn(changes=changes, refused=((said.id, Code.BAD_BODY),))


def _moved(said: Said, body: Progress, wanted: Wanted, before: Upgrade | None) -> Iterator[Change]:
    after = _after(said, body, before)
    if body.state is Phase.COMMITTED:
        after = replace(after, committed=_higher(after.committed, wanted, said.opened.at))
    if after == before:
        return
    yield PutUpgrade(after)
    if body.state in TOLD and _news(before) != _news(after):
        detail = f"{body.name} {wanted.version} ({wanted.counter}), attempt {body.attempt}"
        reason = "" if body.reason is None else str(body.reason)
        actor, action = f"device:{said.device_id}", f"upgrade-{body.state}"
        yield AddAudit(AuditEntry(said.arrived_at, actor, action, said.device_id, reason, detail))


def _news(upgrade: Upgrade | None) -> tuple[object, ...]:
    """Return what makes a word more than a repetition."""
    return () if upgrade is None else (upgrade.phase, upgrade.attempt, upgrade.why, upgrade.committed)


def _after(said: Said, body: Progress, before: Upgrade | None) -> Upgrade:
    """Return the state after this word; a later one that came before it stays."""
    if before is not None and (body.assignmentVersion, said.id) <= (before.assignment, before.word):
        return before
    since, committed = said.opened.at, None if before is None else before.committed
    if before is not None and (before.phase, before.attempt) == (body.state, body.attempt):
        # The same word again, as a device says of an assignment that comes again.
        since = before.since
    return Upgrade(
        device_id=said.device_id,
        name=body.name,
        phase=body.state,
        why=body.reason,
        attempt=body.attempt,
        since=since,
        assignment=body.assignmentVersion,
        word=said.id,
        committed=committed,
    )


def _higher(before: Committed | None, wanted: Wanted, at: datetime) -> Committed:
    if before is not None and before.counter >= wanted.counter:
        return before
    return Committed(wanted.counter, wanted.version, wanted.sha256, at)


def send(assignment: Assignment, device: Device, now: datetime) -> Turn:
    """Send an assignment to a device that is there and may have one."""
    if device.presence is not Presence.ONLINE:
        return Turn(changes=(AssignmentSent(device.id, assignment.version, None, None),))
    if device.state is not State.REGISTERED or device.digital_id is None:
        return Turn(changes=(AssignmentSent(device.id, assignment.version, None, now + HELD),))
    # One that wants nothing has no answer: it is sent again when the device comes again.
    waits = assignment.wanted and not assignment.seen
    sent = AssignmentSent(device.id, assignment.version, now, now + AGAIN if waits else None)
    return Turn(changes=(sent,), replies=(Reply(down(device.id, "assignment"), body(assignment), device.digital_id),))


def body(assignment: Assignment) -> AssignmentBody:
    """Return an assignment as the wire has it."""
    window = None
    if assignment.window is not None:
        begin, end = assignment.window
        window = Window(from_=show(begin), to=show(end))
    return AssignmentBody(version=assignment.version, releases=list(map(release, assignment.wanted)), window=window)


def release(one: Wanted) -> Release:
    """Return one piece of software as the wire has it."""
    return Release(
        name=one.name,
        target=one.target,
        counter=one.counter,
        hashes=Hashes(sha256=one.sha256),
        length=one.length,
        url=one.url,
    )


def put(assignment: Assignment, device: Device, now: datetime) -> PutAssignment:
    """Return the change that gives a device an assignment: at once if it is there."""
    return PutAssignment(assignment, now if device.presence is Presence.ONLINE else None)


def said_again(device: Device, counts: Assignment | None, version: int, now: datetime) -> Turn:
    """Give a device what counts here under a version above the one it has, which this register does not know."""
    wanted = () if counts is None else counts.wanted
    window = None if counts is None else counts.window
    again = Assignment(device.id, version, wanted, SERVER, "the device has a newer one", now, window)
    entry = AuditEntry(now, SERVER, "upgrade-assigned-again", device.id, again.reason, described(again))
    return Turn(changes=(put(again, device, now), AddAudit(entry)))


def described(assignment: Assignment) -> str:
    """Return an assignment in words, for the audit."""
    each = ", ".join(f"{one.name} {one.version} ({one.counter})" for one in assignment.wanted) or "nothing"
    window = "" if assignment.window is None else f", {show(assignment.window[0])} to {show(assignment.window[1])}"
    return f"assignment {assignment.version}: {each}{window}"
