"""Receipts and alarms at the device: what an ``ack`` lets go, what is sent again, and alerts for what was refused.

At most 16 reports are in flight; each is sealed anew at every sending, and deleted only when a signed ``ack`` names it.
Telemetry keeps the pace of the server's receipts: 4 after each ``online``, one more for each receipt, half (not below
4) when one is overdue, 4 when the server says ``too-often``. So a month's history comes in as the server takes it.
Refused downlink is counted per code and told at most once a minute. Source: protocol section 4; C6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fleetward_agent import retirement, rotation
from fleetward_agent.instant import Instant
from fleetward_agent.outbox import REFUSED, Report
from fleetward_agent.presence import greeted
from fleetward_agent.reports import add_report
from fleetward_agent.session import FIRST_PACE, Flight, Session, Tally, count
from fleetward_agent.turn import Count, DropReports, Known, Note, Said, Say, Turn
from fleetward_agent.walk import Stage
from fleetward_schemas.errors import FINAL_CODES, Code, LocalMistake
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import show
from fleetward_schemas.receipts import Ack, Alert, AlertCode
from fleetward_schemas.strict import read_object
from fleetward_schemas.topics import Direction

MOST_IN_FLIGHT = 16
RESEND_S = 30
MOST_RESEND_S = 300
ALERT_GAP_S = 60

_SPOKEN: dict[Code, AlertCode] = {Code.TOO_LARGE: AlertCode.MALFORMED, Code.NOT_ALLOWED: AlertCode.UNKNOWN_KIND} | {
    Code(code.value): code for code in AlertCode if code.value in {known.value for known in Code}
}
"""Which refusals are told. A late or doubled answer (``bad-nonce``) happens on any network and is only counted."""


def on_ack(said: Said, known: Known, session: Session, at: Instant) -> Turn:
    """Let go what the server stored, and what it will never store; send the rest again."""
    ack = said.body
    if not isinstance(ack, Ack):
        raise LocalMistake("on_ack was given another kind")
    final = {one.id for one in ack.refused if one.code in set(FINAL_CODES)}
    waiting = known.kinds or {}
    gone = tuple(one for one in (*ack.ids, *final) if one in waiting and not retirement.is_last_word(session, one))
    lost = len(final & waiting.keys())
    flight = {one: state for one, state in session.flight.items() if one not in gone}
    pace = min(MOST_IN_FLIGHT, session.pace + len(session.flight) - len(flight))
    pace = FIRST_PACE if any(one.code == Code.TOO_OFTEN for one in ack.refused) else pace
    turn = greeted(replace(session, flight=flight, pace=pace), at, frozenset(ack.ids))
    turn = turn.also(rotation.taken(turn.session, at))
    turn = turn.also(rotation.on_refused(turn.session, at, {one.id: one.code for one in ack.refused}))
    turn = turn.also(retirement.on_acknowledged(turn.session, at, frozenset(ack.ids)))
    turn = turn.also(Turn(turn.session, (DropReports(gone),) if gone else ()))
    if not lost:
        return turn
    session = tally(turn.session, AlertCode.REPORT_REFUSED, at, lost)
    return turn.also(Turn(session, (Count(REFUSED, lost),), notes=(Note("report-refused", (("count", lost),)),)))


def room(session: Session) -> int:
    """Return how many more reports may be sent now."""
    ready = session.connected and session.stage is Stage.WORKING
    return MOST_IN_FLIGHT - len(session.flight) if ready else 0


def telemetry_room(session: Session) -> int:
    """Return how many more may be under way if they are telemetry."""
    return min(room(session), session.pace - len(session.flight))


def overdue(session: Session, at: Instant) -> tuple[str, ...]:
    """Return the reports in flight that nobody acknowledged in time."""
    if not session.connected or session.stage is not Stage.WORKING:
        return ()
    return tuple(one for one, state in session.flight.items() if state.due_us <= at.boot_us)


def send(session: Session, at: Instant, fresh: Sequence[Report], again: Mapping[str, Report]) -> Turn:
    """Send waiting reports for the first time, and overdue ones once more."""
    flight = dict(session.flight)
    late = overdue(session, at)
    for one in late:
        if one in again:
            tries = flight[one].tries
            wait_s = min(MOST_RESEND_S, RESEND_S * 2 ** min(tries, 8))
            flight[one] = Flight(at.after_s(wait_s), tries + 1)
        else:
            del flight[one]
    for report in fresh:
        flight[report.id] = Flight(at.after_s(RESEND_S))
    sending = (*again.values(), *fresh)
    # A report once sent keeps its content: nothing may be added to it any more.
    closed = session.open_report is not None and session.open_report.id in {report.id for report in sending}
    pace = max(FIRST_PACE, session.pace // 2) if late else session.pace
    session = replace(session, flight=flight, pace=pace, open_report=None if closed else session.open_report)
    return Turn(session, says=tuple(_say(report) for report in sending))


def _say(report: Report) -> Say:
    body = KINDS[Direction.UP, report.kind].body.read(read_object(report.body.encode()))
    return Say(report.kind, report.id, body)


def refuse(session: Session, code: Code, at: Instant) -> Turn:
    """Count one refused message of the downlink."""
    session = count(session, f"refused {code}")
    spoken = _SPOKEN.get(code)
    return Turn(session if spoken is None else tally(session, spoken, at))


def tally(session: Session, code: AlertCode, at: Instant, by: int = 1) -> Session:
    """Return the session with ``by`` more of what an alert will tell."""
    now = session.clock.now(at.boot_us)
    before = session.tallies.get(code)
    tallied = _more(before, now, by)
    return replace(session, tallies={**session.tallies, code: tallied})


def _more(before: Tally | None, now: datetime, by: int) -> Tally:
    if before is None:
        return Tally(by, now, now)
    first = now if before.count == 0 else before.first
    return Tally(before.count + by, first, now, before.silent_until_us)


def may_tell(session: Session, boot_us: int) -> bool:
    """Say whether alerts can be written: there is a certificate to send them under, and a moment to give."""
    return session.kept.pair is not None and session.clock.synced(boot_us) and not session.retiring


def step(session: Session, at: Instant) -> Turn:
    """Tell what was tallied, at most once a minute per code."""
    turn = Turn(session)
    if not may_tell(session, at.boot_us):
        return turn
    for code, tallied in session.tallies.items():
        if tallied.count and tallied.silent_until_us <= at.boot_us:
            turn = turn.also(_alert(turn.session, at, code, tallied))
    return turn


def _alert(session: Session, at: Instant, code: AlertCode, tallied: Tally) -> Turn:
    silent = replace(tallied, count=0, silent_until_us=at.after_s(ALERT_GAP_S))
    session = replace(session, tallies={**session.tallies, code: silent})
    body = Alert(code=code, count=tallied.count, first=show(tallied.first), last=show(tallied.last))
    turn = add_report(session, at, "alert", body)
    return replace(turn, notes=(Note("alert", (("code", code), ("count", tallied.count))),))
