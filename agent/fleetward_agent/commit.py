"""What a turn changes, written down: the durable state, then the outbox in one transaction.

Source: deploy/decisions/0001 "How data flows" (commit, then acknowledge, then speak).
"""

from dataclasses import replace

from fleetward_agent import receipts
from fleetward_agent.instant import Instant
from fleetward_agent.parts import Parts
from fleetward_agent.session import Session
from fleetward_agent.turn import Spent, Turn
from fleetward_schemas.receipts import AlertCode


def commit(turn: Turn, before: Session, parts: Parts, at: Instant) -> Session:
    """Return the session after the turn: its own, and an alert in it where the outbox had no room for all.

    before: the session that the turn began with; the budget that it has spent goes along with any change.

    Raises:
        OSError, sqlite3.Error: it could not be written down whole.
    """
    if turn.session.kept != before.kept:
        parts.state.save(turn.session.kept)
    budget = before.budget
    changes = (*turn.changes, Spent(budget.day, budget.spent)) if budget.bytes_per_day else turn.changes
    gone = parts.outbox.commit(changes) if turn.changes else 0
    if not gone:
        return turn.session
    return replace(receipts.tally(turn.session, AlertCode.OUTBOX_FULL, at, gone), open_report=None)
