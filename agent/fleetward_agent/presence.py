"""Presence: each connection has a name, a signed will that tells its end, and an ``online`` said until acknowledged.

Source: protocol section 5 "Operation".
"""

from dataclasses import replace

from fleetward_agent.instant import Instant
from fleetward_agent.session import FIRST_PACE, Ask, Session, drop_ask, move, new_id, put_ask
from fleetward_agent.turn import Note, Say, Sweep, Turn
from fleetward_agent.walk import Stage, Step
from fleetward_schemas.presence import Status, StatusReason
from fleetward_schemas.strict import b64url

PRESENCE_BYTES = 16


def begin(session: Session, at: Instant) -> tuple[Session, Say]:
    """Name a connection that is about to be made, and return its will."""
    session = replace(session, presence=b64url(at.draw("presence", PRESENCE_BYTES)))
    session, made = new_id(session, at, "will")
    will = Status(state="offline", session=session.presence, reason=StatusReason.CONNECTION_LOST)
    return session, Say("status", made, will)


def greet(session: Session, at: Instant) -> Turn:
    """Say ``online`` on a connection that stands, until the server acknowledges it."""
    if session.stage is not Stage.GREETING:
        return Turn(session)
    session = replace(session, pair_us=at.boot_us if session.pair_us is None else session.pair_us)
    reason = StatusReason.RECONNECTED if session.greeted_once else StatusReason.STARTED
    session, made = new_id(session, at, "online")
    online = Status(state="online", session=session.presence, reason=reason)
    return Turn(put_ask(session, "status", Ask(made, online, at.boot_us)))


def greeted(session: Session, at: Instant, ids: frozenset[str]) -> Turn:
    """Begin to work when one of the acknowledged ids is the ``online``'s."""
    ask = session.asks.get("status")
    if session.stage is not Stage.GREETING or ask is None or ask.id not in ids:
        return Turn(session)
    session = move(drop_ask(session, "status"), Step.GREETED)
    session = replace(session, dials=0, greeted_once=True, flight={}, pace=FIRST_PACE, pair_us=None)
    return Turn(session, changes=(Sweep(session.clock.now(at.boot_us)),), notes=(Note("online"),))


def farewell(session: Session, at: Instant, reason: StatusReason = StatusReason.SHUTDOWN) -> Turn:
    """Say ``offline`` before a DISCONNECT of our own."""
    # Just enrolled and still on the factory's line, or on the one for the time alone: no session was begun there.
    if not session.connected or not session.presence or session.stage not in {Stage.GREETING, Stage.WORKING}:
        return Turn(session)
    session, made = new_id(session, at, "offline")
    offline = Status(state="offline", session=session.presence, reason=reason)
    return Turn(session, says=(Say("status", made, offline),), notes=(Note("offline", (("reason", reason),)),))
