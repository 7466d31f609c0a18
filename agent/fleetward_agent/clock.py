"""Trusted time at the device: when to ask, what to take from an answer and a beacon, what did not count, when to save.

It is asked when the interval grows wider than the host's work can bear, and first of all on a new line; never by a
timer. The operating system's clock is never read; the law of the interval is the schemas'.
Source: S3; protocol section 5 "Time".
"""

from dataclasses import replace

from fleetward_agent.commands import time_learnt
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.receipts import tally
from fleetward_agent.session import Session, asked, count, drop_ask, move, new_id, want_time
from fleetward_agent.state import RefusedTime
from fleetward_agent.turn import Known, Note, Said, Say, Turn, in_order
from fleetward_agent.walk import Stage, Step, may_advance
from fleetward_schemas import clock as law
from fleetward_schemas.certificates import Chain
from fleetward_schemas.clock import MILLISECOND_US, SYNCED_WIDTH_US, Signer, TimeAnswer, TimeQuestion
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.moment import to_ms
from fleetward_schemas.receipts import AlertCode
from fleetward_schemas.strict import b64url

NEAR_US = SYNCED_WIDTH_US * 3 // 4
"""A width at which it is time to ask, before the device must fall silent."""
SAVE_S = 600
REFUSED_TIMES = "times refused"
MOST_REFUSED = 16
MOST_DETAIL_CHARS = 80
DISPUTES = 3
"""Answers in a row that contradict the clock before it is held: one bad server must not silence a fleet."""


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
    known_us = session.clock.latest_at(at.boot_us)
    clock = law.accept_answer(session.clock, said.body, signer_of(said.chain), at.boot_us)
    if clock.earliest_us > known_us:
        # Taken all the same, for it may be our oscillator that was wrong; but never in silence.
        session = tally(session, AlertCode.CLOCK_JUMP, at)
    session = kept(replace(session, clock=clock, synced_us=at.boot_us, disputes=0), at)
    session = replace(session, kept=replace(session.kept, synced_ms=to_ms(clock.now(at.boot_us))))
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


def refused(session: Session, topic: str, refusal: Refused, at: Instant) -> Session:
    """Return the session with what did not count among the times, and the clock held once they all contradict it."""
    kind = topic.rpartition("/")[2]
    if kind not in {"time", "beacon"}:
        return session
    now_ms = to_ms(session.clock.now(at.boot_us))
    one = RefusedTime(now_ms, kind, refusal.code, refusal.detail[:MOST_DETAIL_CHARS])
    session = replace(session, refused_times=(*session.refused_times, one)[-MOST_REFUSED:])
    session = count(session, REFUSED_TIMES)
    if refusal.code is not Code.CLOCK_JUMP:
        return session
    # Its question is answered: a copy of the same answer is no second dispute.
    clock = replace(session.clock, question=None)
    session = replace(session, clock=clock, disputes=session.disputes + 1)
    return session if session.disputes < DISPUTES else replace(session, clock=law.hold(clock, at.boot_us))


def awake(session: Session, at: Instant) -> Session:
    """Return the session as it stands after a suspend, wanting the time; the same when there was none."""
    clock = law.wake(session.clock, at.boot_us, at.slept_us)
    if clock is session.clock:
        return session
    return want_time(count(replace(session, clock=clock), "suspends"), at)


def time_first(session: Session, at: Instant) -> Session:
    """Return the session of a new line: the time is asked first of all, unless it was learnt a moment ago."""
    recent = session.synced_us is not None and at.boot_us < session.synced_us + session.kept.time_s * SECOND_US
    return session if recent and at.boot_us < wanted_us(session) else want_time(session, at)


def wanted_us(session: Session) -> int:
    """Return the boot clock from which the time is wanted anew: when the work needs it, no oftener than ``timeS``.

    Before half the width would exceed ``need_ms``, but not before the width has grown by half of that: a server that is
    itself less sure than the work needs is not asked without end. Whatever the pace, before a device must fall silent.
    """
    clock, need_us = session.clock, session.facts.need_ms * MILLISECOND_US
    if session.synced_us is None:
        return 0
    width_us = clock.width_at(session.synced_us)
    enough = clock.wide_at(max(2 * need_us * 3 // 4, width_us + need_us // 2))
    paced = session.synced_us + session.kept.time_s * SECOND_US
    return min(clock.wide_at(NEAR_US), max(enough, paced))


def _wonder(session: Session, at: Instant) -> Turn:
    """Want a time question where there is none and the interval is, or soon will be, too wide."""
    if not session.connected or "time" in session.asks or at.boot_us < wanted_us(session):
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
    durable = replace(session.kept, clock=saved, refused_times=session.refused_times)
    return replace(session, kept=durable, save_us=at.after_s(SAVE_S))
