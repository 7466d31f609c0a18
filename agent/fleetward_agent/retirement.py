"""Retirement at the device: one last word, and then there is nothing left to speak with.

From the moment the order is written down nothing leaves but the time, the status and one result; then every key, both
chains, the digital ID and the outbox are destroyed. Source: C3, S6; protocol section 5 "Retirement".
"""

from dataclasses import replace

from fleetward_agent.enrol import DAY_S
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.presence import farewell
from fleetward_agent.session import Session, doom, move
from fleetward_agent.state import Gone
from fleetward_agent.turn import ForgetAll, Note, Turn
from fleetward_agent.walk import Step, may_advance
from fleetward_schemas.enrol import Reason
from fleetward_schemas.moment import to_ms
from fleetward_schemas.presence import StatusReason

_US_PER_MS = 1000


def is_last_word(session: Session, report_id: str) -> bool:
    """Say whether this report is the result of the retirement: it stays until the keys are gone."""
    order = session.kept.order
    return session.retiring and order is not None and order.result_id == report_id


def on_acknowledged(session: Session, at: Instant, ids: frozenset[str]) -> Turn:
    """Take leave once the server has our last word."""
    if session.retired or not any(is_last_word(session, one) for one in ids):
        return Turn(session)
    turn = farewell(session, at, StatusReason.RETIRED)
    return turn.on(replace(turn.session, retired=True))


def ends_in_us(session: Session, boot_us: int) -> int:
    """Return in how many microseconds the order's time is over, as far as the time is known."""
    order = session.kept.order
    left_ms = 0 if order is None else order.expires_ms - to_ms(session.clock.now(boot_us))
    return max(0, left_ms) * _US_PER_MS


def step(session: Session, at: Instant) -> Turn:
    """Destroy everything when the last word is acknowledged, its time is over, or nobody takes us any more."""
    over = session.retiring and (session.retired or ends_in_us(session, at.boot_us) == 0 or _ended(session, at))
    if not over or not may_advance(session.stage, Step.GONE):
        return Turn(session)
    if not session.emptied:
        # State and outbox are two files: emptied again after a crash, before the state says that there is nothing.
        return Turn(replace(session, retired=True, emptied=True), changes=(ForgetAll(),))
    return _forgotten(session, at)


def _forgotten(session: Session, at: Instant) -> Turn:
    kept, order = session.kept, session.kept.order
    pairs = (kept.pair, kept.previous, kept.candidate, order)
    names = {name for pair in pairs if pair is not None for name in (pair.device_key, pair.transport_key)}
    gone = Gone(Reason.RETIRED, to_ms(session.clock.now(at.boot_us)))
    kept = replace(
        doom(session, names), pair=None, previous=None, candidate=None, order=None, device_code=None, gone=gone
    )
    after = replace(
        move(session, Step.GONE),
        kept=kept,
        rest_us=at.boot_us + DAY_S * SECOND_US,
        retired=False,
        emptied=False,
        old=False,
        redial=False,
        order_row=None,
        jobs=(),
        flight={},
        tallies={},
        open_report=None,
        windows={},
    )
    return Turn(after, notes=(Note("retired"),))


def _ended(session: Session, at: Instant) -> bool:
    end = session.certificate_end
    return end is not None and session.clock.now(at.boot_us) > end
