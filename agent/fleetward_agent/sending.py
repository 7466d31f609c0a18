"""Which reports leave now: what is urgent at once, telemetry from the newest back, as the server and the budget allow.

Source: protocol section 4 "Reports".
"""

from collections.abc import Sequence

from fleetward_agent import receipts, telemetry
from fleetward_agent.instant import Instant
from fleetward_agent.outbox import Outbox, Report
from fleetward_agent.session import Session
from fleetward_agent.turn import Turn
from fleetward_agent.urgency import TELEMETRY, URGENCY


def next_reports(session: Session, outbox: Outbox, at: Instant) -> Turn | None:
    """Return the turn that sends them; None when there is nothing to send."""
    overdue, room = receipts.overdue(session, at), receipts.room(session)
    behind = outbox.depth > len(session.flight)
    if not overdue and not (room > 0 and behind):
        return None
    may = {kind for kind, urgency in URGENCY.items() if urgency in session.budget.priorities}
    again = {one.id: one for one in outbox.reports(overdue).values() if one.kind in may}
    fresh = _fresh(session, outbox, room) if room > 0 and behind else ()
    return receipts.send(session, at, fresh, again) if fresh or overdue else None


def _fresh(session: Session, outbox: Outbox, room: int) -> Sequence[Report]:
    order = session.kept.order
    if not session.retiring or order is None or order.result_id is None:
        return _by_urgency(session, outbox, room)
    # The last word, and no other.
    last = outbox.reports((order.result_id,))
    return [one for one in last.values() if one.id not in session.flight]


def _by_urgency(session: Session, outbox: Outbox, room: int) -> Sequence[Report]:
    may = session.budget.priorities
    urgent = outbox.waiting(room, session.flight, may[:TELEMETRY])
    left = receipts.telemetry_room(session) - len(urgent)
    if TELEMETRY not in may or left <= 0:
        return urgent
    return [*urgent, *outbox.waiting(left, {*session.flight, *telemetry.kept_back(session)}, may[TELEMETRY:])]
