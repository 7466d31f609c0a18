"""Trusted time at the device: when to ask, what to take from an answer and a beacon, when to write it down.

The operating system's clock is never read; the law of the interval is the schemas'.
Source: S3; protocol section 5 "Time".
"""

from dataclasses import replace

from fleetward_agent.commands import time_learnt
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.session import Session, asked, drop_ask, move, new_id, want_time
from fleetward_agent.turn import Known, Note, Said, Say, Turn, in_order
from fleetward_agent.walk import Stage, Step, may_advance
from fleetward_schemas import clock as law
from fleetward_schemas.certificates import Chain
from fleetward_schemas.clock import SYNCED_WIDTH_US, Signer, TimeAnswer, TimeQuestion
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.strict import b64url

NEAR_US = SYNCED_WIDTH_US * 3 // 4
"""A width at which it is time to ask, before the device must fall silent."""
SAVE_S = 600


def step(session: Session, at: Instant) -> Turn:
    """Go where the clock leads, ask when the time is old, write the clock down every ten minutes."""
    return in_order(session, at, (_settle, _wonder, _ask, _save))


def signer_of(chain: Chain) -> Signer:
    """Return what the clock asks of a chain."""
    return Signer(chain.not_before, chain.not_after, chain.leaf.not_valid_before_utc)


def on_time(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Take one answer.

    Raises:
        Refused: see ``fleetward_schemas.clock.accept_answer``.
    """
    if not isinstance(said.body, TimeAnswer):
        raise LocalMistake("on_time was given another kind")
    clock = law.accept_answer(session.clock, said.body, signer_of(said.chain), at.boot_us)
    session = kept(replace(session, clock=clock, synced_us=at.boot_us), at)
    width = Note("time", (("widthMs", clock.width_at(at.boot_us) // 1000),))
    if clock.synced(at.boot_us):
        session = drop_ask(session, "time")
    return Turn(session, notes=(width,)).then(time_learnt, at).then(_settle, at)


def on_beacon(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Take one beacon: a floor, and no more.

    Raises:
        Refused: see ``fleetward_schemas.clock.accept_beacon``.
    """
    clock = law.accept_beacon(session.clock, said.opened.at, signer_of(said.chain), at.boot_us)
    return _settle(replace(session, clock=clock, beacon_us=at.boot_us), at)


def _settle(session: Session, at: Instant) -> Turn:
    """Move to the stage that fits the clock: unsynced, only the time may be spoken of."""
    if session.stage is Stage.RESTING:
        return Turn(session)
    step = Step.SYNCED if session.clock.synced(at.boot_us) else Step.UNSYNCED
    if not may_advance(session.stage, step):
        return Turn(session)
    moved = move(session, step)
    return Turn(moved, notes=(Note("stage", (("from", session.stage), ("to", moved.stage))),))


def _wonder(session: Session, at: Instant) -> Turn:
    """Want a time question where there is none and the last answer is old, or the interval nearly too wide."""
    if not session.connected or "time" in session.asks:
        return Turn(session)
    age_us = None if session.synced_us is None else at.boot_us - session.synced_us
    old = age_us is None or age_us >= session.kept.time_s * SECOND_US
    # A restart within one boot keeps the interval: narrow and restored is as good as asked.
    if session.clock.width_at(at.boot_us) <= NEAR_US and not old:
        return Turn(session)
    return Turn(want_time(session, at))


def _ask(session: Session, at: Instant) -> Turn:
    ask = session.asks.get("time")
    if ask is None or not session.connected or ask.due_us > at.boot_us:
        return Turn(session)
    nonce = b64url(at.draw("time nonce"))
    session, made = new_id(session, at, "time")
    session = replace(session, clock=law.ask(session.clock, nonce, at.boot_us))
    session = asked(session, "time", replace(ask, id=made), at)
    return Turn(session, says=(Say("time", made, TimeQuestion(nonce=nonce)),))


def _save(session: Session, at: Instant) -> Turn:
    if session.synced_us is None or at.boot_us < session.save_us:
        return Turn(session)
    return Turn(kept(session, at))


def kept(session: Session, at: Instant) -> Session:
    """Return the session with the clock in its durable part."""
    saved = law.save(session.clock, session.facts.boot_id, at.boot_us)
    return replace(session, kept=replace(session.kept, clock=saved), save_us=at.after_s(SAVE_S))
