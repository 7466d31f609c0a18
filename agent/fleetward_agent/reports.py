"""How a report enters the outbox, whatever its kind: one id for its life, an order of urgency, its body as JSON.

Source: protocol section 4 "Reports (telemetry info result progress alert) wait in the outbox, keeping id".
"""

from fleetward_agent.instant import Instant
from fleetward_agent.session import Session, new_id
from fleetward_agent.turn import AddReport, Turn
from fleetward_agent.urgency import URGENCY
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import to_ms
from fleetward_schemas.shapes import Body
from fleetward_schemas.topics import Direction


def add_report(session: Session, at: Instant, kind: str, body: Body, report_id: str | None = None) -> Turn:
    """Put one report into the outbox. report_id: made already; said twice, it is kept once.

    Raises:
        LocalMistake: no report, or one that the server would refuse: it would wait for ever.
    """
    if not KINDS[Direction.UP, kind].report:
        raise LocalMistake(f"{kind} is no report")
    body.checked()
    session, made = new_id(session, at, f"report {kind}") if report_id is None else (session, report_id)
    created = to_ms(session.clock.now(at.boot_us))
    return Turn(session, (AddReport(made, kind, body.json(), URGENCY[kind], created),))
