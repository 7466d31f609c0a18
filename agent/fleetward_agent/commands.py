"""Commands at the device: written down as accepted before acting, done at most once, answered the same way for ever.

Source: S4; protocol section 5 "Commands". The verbs are a closed list and none captures (C9).
"""

import json
from dataclasses import replace

from fleetward_agent import upgrade
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.reports import add_report
from fleetward_agent.session import Job, Session, key_names, new_id, want_time
from fleetward_agent.state import KeyOrder
from fleetward_agent.turn import InfoSigned, Known, Note, PutCommand, Said, SignInfo, Turn
from fleetward_agent.walk import Stage
from fleetward_schemas.commands import KEY_VERBS, Command, Result, ResultReason, ResultState, Verb, takes
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.inventory import Info
from fleetward_schemas.moment import to_ms

MOST_JOB_S = 30


def on_command(said: Said, known: Known, session: Session, at: Instant) -> Turn:
    """Accept a command, refuse it, or say again what became of it."""
    command = said.body
    if not isinstance(command, Command) or said.opened.expires is None:
        raise LocalMistake("on_command was given another kind")
    if session.retiring:
        return Turn(session)
    if known.command is not None:
        return _answer(session, at, known.command)
    params = json.dumps(command.params, separators=(",", ":"), sort_keys=True)
    row = PutCommand(
        command_id=command.commandId,
        state=ResultState.ACCEPTED,
        reason=None,
        verb=command.command,
        params=params,
        expires_ms=to_ms(said.opened.expires),
        at_ms=to_ms(session.clock.now(at.boot_us)),
    )
    if command.command not in set(Verb):
        return _put(session, at, replace(row, state=ResultState.REFUSED, reason=ResultReason.UNKNOWN_COMMAND))
    if not takes(Verb(command.command), command.params):
        return _put(session, at, replace(row, state=ResultState.REFUSED, reason=ResultReason.BAD_PARAMS))
    if Verb(row.verb) in KEY_VERBS:
        return _order(session, at, row)
    turn = _put(session, at, row)
    return turn.on(replace(turn.session, jobs=(*turn.session.jobs, job_of(row))))


def _order(session: Session, at: Instant, row: PutCommand) -> Turn:
    """Write a key command down: it is told, begun and ended by ``key_order``, ``rotation`` and ``retirement``."""
    order = session.kept.order
    if order is not None and order.command_id == row.command_id:
        return Turn(session)
    # New keys while the software is between two versions: neither could tell which of them failed. Retiring may.
    between = session.kept.software.underway is not None and Verb(row.verb) is not Verb.RETIRE
    if order is not None or between:
        return _put(session, at, replace(row, state=ResultState.REFUSED, reason=ResultReason.BUSY))
    if to_ms(session.clock.latest(at.boot_us)) >= row.expires_ms:
        return _put(session, at, replace(row, state=ResultState.EXPIRED))
    if Verb(row.verb) is Verb.RETIRE:
        session, made = new_id(session, at, "retirement")
        order = KeyOrder(row.command_id, Verb.RETIRE, row.expires_ms, outcome=ResultState.SUCCEEDED, result_id=made)
        session = replace(session, flight={})
    else:
        order = KeyOrder(row.command_id, Verb.ROTATE_KEY, row.expires_ms, *key_names(at))
    session = replace(session, kept=replace(session.kept, order=order), order_row=None)
    return Turn(session, notes=(Note("key-order", (("verb", row.verb),)),))


def again(known: Known, session: Session, at: Instant) -> Turn:
    """Answer a message whose number was taken before: nothing changes, the stored result is sent again."""
    return Turn(session) if known.command is None or session.retiring else _answer(session, at, known.command)


def job_of(row: PutCommand) -> Job:
    """Return the work of an accepted command."""
    return Job(row.command_id, Verb(row.verb), row.params, row.expires_ms)


def step(session: Session, at: Instant) -> Turn:
    """Start the next job, or give up one that took too long."""
    if not session.jobs or session.stage is not Stage.WORKING or session.retiring:
        return Turn(session)
    job = session.jobs[0]
    if job.started_us is None:
        return _start(session, at, job)
    if at.boot_us - job.started_us < MOST_JOB_S * SECOND_US:
        return Turn(session)
    reason = ResultReason.CLOCK if job.verb is Verb.SYNC_TIME else ResultReason.STORAGE
    return finish(session, at, job, ResultState.FAILED, reason)


def _start(session: Session, at: Instant, job: Job) -> Turn:
    # Judged at the latest end: what may have expired has expired.
    if to_ms(session.clock.latest(at.boot_us)) >= job.expires_ms:
        return finish(session, at, job, ResultState.EXPIRED)
    started = replace(session, jobs=(replace(job, started_us=at.boot_us), *session.jobs[1:]))
    match job.verb:
        case Verb.COLLECT_INFO:
            return Turn(started, effects=(SignInfo(job.command_id),))
        case Verb.SYNC_TIME:
            return Turn(want_time(started, at))
        case Verb.UNLOCK_UPGRADE:
            return _unlock(started, at, job)
        case Verb.ROTATE_KEY | Verb.RETIRE:
            raise LocalMistake(f"{job.verb} is no job")


def _unlock(session: Session, at: Instant, job: Job) -> Turn:
    turn = upgrade.unlock(session, at, str(json.loads(job.params)["name"]))
    if turn is None:
        return finish(session, at, job, ResultState.FAILED, ResultReason.BAD_PARAMS)
    return turn.also(finish(turn.session, at, job, ResultState.SUCCEEDED))


def on_info(outcome: InfoSigned, session: Session, at: Instant) -> Turn:
    """Report device info, and that the command which asked for it is done."""
    job = next((job for job in session.jobs if job.command_id == outcome.command_id), None)
    if job is None:
        return Turn(session)
    turn = add_report(session, at, "info", Info(deviceInfo=outcome.jws))
    return turn.also(finish(turn.session, at, job, ResultState.SUCCEEDED))


def time_learnt(session: Session, at: Instant) -> Turn:
    """Finish a ``sync-time`` that was waiting for this answer."""
    job = session.jobs[0] if session.jobs else None
    if job is None or job.verb is not Verb.SYNC_TIME or job.started_us is None:
        return Turn(session)
    return finish(session, at, job, ResultState.SUCCEEDED)


def finish(session: Session, at: Instant, job: Job, state: ResultState, reason: ResultReason | None = None) -> Turn:
    """Write down and report what became of a job."""
    now_ms = to_ms(session.clock.now(at.boot_us))
    row = PutCommand(job.command_id, state, reason, job.verb, job.params, job.expires_ms, now_ms)
    rest = tuple(other for other in session.jobs if other.command_id != job.command_id)
    return _put(replace(session, jobs=rest), at, row)


def _put(session: Session, at: Instant, row: PutCommand) -> Turn:
    return told(session, at, row, None)


def told(session: Session, at: Instant, row: PutCommand, report_id: str | None) -> Turn:
    """Write down and report how a key command stands. report_id: of this result, where it must be known."""
    turn = add_report(session, at, "result", _result(row), report_id)
    note = Note("command", (("verb", row.verb), ("state", row.state), ("reason", row.reason or "")))
    return replace(turn, changes=(row, *turn.changes), notes=(note,))


def _result(row: PutCommand) -> Result:
    return Result(commandId=row.command_id, state=row.state, reason=row.reason)


def _answer(session: Session, at: Instant, row: PutCommand) -> Turn:
    return add_report(session, at, "result", _result(row))
