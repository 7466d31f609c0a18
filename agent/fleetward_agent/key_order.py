"""The one key command there may be, told and ended; and keys that nothing needs any more, destroyed.

State and outbox are two files, so each turn here writes to one of them: the order is written down, then told; ended,
then told, then forgotten. Said twice after a crash, a result keeps its id.
Source: protocol section 5 "Commands", "Rotation", "Retirement".
"""

from dataclasses import replace

from fleetward_agent.commands import told
from fleetward_agent.instant import Instant
from fleetward_agent.session import Session, doom, new_id
from fleetward_agent.turn import Destroy, Destroyed, Note, PutCommand, Turn, in_order
from fleetward_schemas.commands import ResultReason, ResultState, Verb
from fleetward_schemas.moment import to_ms


def step(session: Session, at: Instant) -> Turn:
    """Tell how the order stands, forget one that is told to its end, destroy what is doomed."""
    return in_order(session, at, (_tell, _destroy))


def _tell(session: Session, at: Instant) -> Turn:
    order = session.kept.order
    if order is None or session.retired:
        return Turn(session)
    wanted = order.outcome or ResultState.ACCEPTED
    if session.order_row is not wanted:
        now_ms = to_ms(session.clock.now(at.boot_us))
        row = PutCommand(order.command_id, wanted, order.reason, order.verb, "{}", order.expires_ms, now_ms)
        turn = told(session, at, row, order.result_id)
        return turn.on(replace(turn.session, order_row=wanted))
    if order.outcome is None or order.verb is Verb.RETIRE:
        return Turn(session)
    return Turn(replace(session, kept=replace(session.kept, order=None), order_row=None))


def unsaid(session: Session) -> bool:
    """Say whether there is something to tell of the order, or to forget."""
    order = session.kept.order
    if order is None:
        return False
    ended = order.outcome is not None and order.verb is not Verb.RETIRE
    return ended or session.order_row is not (order.outcome or ResultState.ACCEPTED)


def end(
    session: Session, at: Instant, outcome: ResultState, reason: ResultReason | None, unneeded: tuple[str, ...]
) -> Turn:
    """End a rotation. unneeded: names of keys that are of no more use."""
    order = session.kept.order
    if order is None:
        return Turn(session)
    session, made = new_id(session, at, "order")
    ended = replace(order, outcome=outcome, reason=reason, result_id=made)
    return Turn(replace(session, kept=replace(doom(session, unneeded), order=ended)))


def _destroy(session: Session, _: Instant) -> Turn:
    names = session.kept.doomed
    return Turn(session, effects=(Destroy(names),) if names else ())


def on_destroyed(outcome: Destroyed, session: Session, _: Instant) -> Turn:
    """Strike destroyed keys from the list."""
    left = tuple(name for name in session.kept.doomed if name not in outcome.names)
    note = Note("keys-destroyed", (("count", len(outcome.names)),))
    return Turn(replace(session, kept=replace(session.kept, doomed=left)), notes=(note,))
