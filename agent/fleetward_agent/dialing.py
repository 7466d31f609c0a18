"""When a line is opened, what its coming and going means, and how long to wait: full jitter from 1 s to 5 minutes.

Source: protocol section 5 "Operation"; a device refused by the broker for an hour enrols again ("First contact").
"""

import ssl
from dataclasses import replace

from fleetward_agent.clock import time_first
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.parts import Options
from fleetward_agent.presence import greet
from fleetward_agent.session import LEAST_GAP_US, Session, count, drop_ask, move, swapped
from fleetward_agent.turn import Note, Turn
from fleetward_agent.walk import DOORS, SHUT_OUT_S, Door, Step, may_advance
from fleetward_broker.line import Dial, Loss, backoff_s
from fleetward_schemas.topics import ROOT, Role

_REFUSALS = {Loss.TLS_REFUSED, Loss.CONNECT_REFUSED}
PAIR_REFUSALS = 3
"""Refused dials with one of two pairs before the other is tried."""


def wanted(session: Session, at: Instant) -> Door | None:
    """Return the door to open now; None when one is open already, none is wanted, or it is too early."""
    door = DOORS[session.stage]
    return door if door != session.door and at.boot_us >= session.dial_us else None


def opening(session: Session, door: Door) -> Session:
    """Return the session whose line is being opened."""
    return replace(session, door=door, connected=False)


def hung_up(session: Session) -> Session:
    """Return the session whose line we closed, to open another; one for new keys takes them into use."""
    old = session.old and not session.redial
    return replace(drop_ask(session, "status"), door=None, connected=False, redial=False, old=old)


def dial(session: Session, door: Door, options: Options, context: ssl.SSLContext) -> Dial:
    """Return how to open a line at a door; a will is added when it is."""
    return Dial(
        host=options.host,
        port=options.port,
        server_name=options.server_name,
        client_id=f"{session.principal}-{suffix(session, door)}",
        context=context,
        clean=door.role is Role.FACTORY or not door.strict,
        subscriptions=subscriptions(session, door),
        keep_alive_s=options.keep_alive_s,
    )


def suffix(session: Session, door: Door) -> str:
    """Return the secret end of the client id. Unsynced, ``<id>`` must not take over its own kept session."""
    suffixes = session.kept.suffixes
    if door.role is Role.FACTORY:
        return suffixes.factory
    return suffixes.device if door.strict else suffixes.unsynced


def subscriptions(session: Session, door: Door) -> tuple[tuple[str, int], ...]:
    """Return what to listen to."""
    own = f"{ROOT}/d/{session.principal}/down"
    if door.role is Role.FACTORY:
        return ((f"{own}/#", 1),)
    return ((f"{own}/#", 1), (f"{ROOT}/fleet/+", 1)) if door.strict else ((f"{own}/time", 1),)


def on_connected(session: Session, at: Instant) -> Turn:
    """Begin to speak: what was not answered on the line before is said again."""
    asks = {kind: replace(ask, tries=0, due_us=_soonest(session, kind, at)) for kind, ask in session.asks.items()}
    session = count(replace(session, connected=True, asks=asks), "connections")
    if session.door is not None and session.door.role is Role.DEVICE:
        session = replace(session, refused_since_us=None, pair_refusals=0)
    note = Note("connected", (("as", session.principal), ("stage", session.stage)))
    # The time first: what follows is stamped with it.
    return replace(greet(time_first(session, at), at), notes=(note,))


def _soonest(session: Session, kind: str, at: Instant) -> int:
    return max(at.boot_us, session.asked_us.get(kind, -LEAST_GAP_US) + LEAST_GAP_US)


def on_lost(session: Session, loss: Loss, at: Instant) -> Turn:
    """Wait, longer each time; after an hour of the broker's refusals go back to the factory's door."""
    wait_s = backoff_s(session.dials, at.chance("backoff"))
    lost = replace(hung_up(session), dials=session.dials + 1, dial_us=at.after_s(wait_s))
    if session.door is not None and session.door.role is Role.DEVICE and loss in _REFUSALS:
        lost = _refused(lost, at)
    if loss is Loss.TLS_REFUSED and session.retiring:
        # The server has done its part: whoever it takes no more needs no keys.
        lost = replace(lost, retired=True)
    if may_advance(lost.stage, Step.LOST):
        lost = move(lost, Step.LOST)
    note = Note("lost", (("loss", loss), ("stage", lost.stage), ("waitMs", int(wait_s * 1000))))
    return Turn(lost, notes=(note,))


def _refused(session: Session, at: Instant) -> Session:
    if session.kept.previous is not None:
        session = replace(session, pair_refusals=session.pair_refusals + 1)
        session = swapped(session) if session.pair_refusals >= PAIR_REFUSALS else session
    since = at.boot_us if session.refused_since_us is None else session.refused_since_us
    out = at.boot_us - since >= SHUT_OUT_S * SECOND_US and not session.retiring
    if out and may_advance(session.stage, Step.SHUT_OUT):
        return replace(move(session, Step.SHUT_OUT), refused_since_us=None)
    return replace(session, refused_since_us=since)
