"""A bundle at the device: envelopes that came by hand, opened as from the network, and what is carried back.

The file is taken whole or not at all, in one turn; left out by name is only an order that has expired, a time answer
that comes too late, and an encryption certificate that MOSIP's anchors do not lead to. An order waits at the server for
the next bundle while the device cannot tell whether it has expired: after a reboot, until a carried answer has told the
time.
Source: S3, S4; protocol section 3; schemas/README.md "Bundles".
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleetward_agent import commands, desk, key_order, receipts, retirement
from fleetward_agent.instant import Instant
from fleetward_agent.outbox import Outbox, Report
from fleetward_agent.session import Session
from fleetward_agent.state import CarriedQuestion
from fleetward_agent.trust import Chains
from fleetward_agent.turn import Known, Turn, in_order
from fleetward_agent.walk import Stage
from fleetward_schemas.bundle import Carried
from fleetward_schemas.clock import CARRIED_DELAY_US, FAR_FUTURE_US, SLEEP_LEAST_US, Question
from fleetward_schemas.commands import ResultReason, ResultState, Verb
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import b64url
from fleetward_schemas.topics import Direction, fleet, read_topic

BEACON = fleet("beacon")
MOST_ANSWERS = 5000
ALONE = frozenset({"time", "encryption"})
"""Kinds whose signature held and whose content may be of no use here: they are left out, and the rest is taken."""
Knows = Callable[[Body], Known]


@dataclass(frozen=True, slots=True)
class Read:
    """What a bundle makes happen.

    taken: messages by kind; left: what was left out alone, ``line: refusal``; held: orders that wait until the time
    is known; others: lines for other devices.
    """

    turn: Turn
    taken: Counter[str] = field(default_factory=Counter)
    left: tuple[str, ...] = ()
    held: int = 0
    others: int = 0

    @property
    def session(self) -> Session:
        """The session after it."""
        return self.turn.session


def read(messages: Sequence[Carried], session: Session, know: Knows, chains: Chains, at: Instant) -> Read:
    """Take all messages for this device as one turn.

    Raises:
        Refused: the first line that does not hold, by its number; ``malformed`` where no beacon comes first;
            ``wrong-topic`` where nothing is for this device.
    """
    if not messages or messages[0].topic != BEACON:
        raise Refused(Code.MALFORMED, "line 2: a bundle for devices begins with a beacon")
    done = Read(Turn(_asking(session, at)))
    for number, one in enumerate(messages, start=2):
        try:
            done = _next(done, number, one, know, chains, at)
        except Refused as refusal:
            raise Refused(refusal.code, f"line {number}: {refusal.detail}") from None
    if sum(done.taken.values()) + len(done.left) + done.held <= done.taken["beacon"]:
        raise Refused(Code.WRONG_TOPIC, "nothing in it is for this device")
    return done


def _asking(session: Session, at: Instant) -> Session:
    """Return the session with the carried question outstanding, if it still counts."""
    kept = session.kept.carried
    if kept is None or not _counts(kept, session, at):
        return session
    question = Question(kept.nonce, kept.boot_us, CARRIED_DELAY_US)
    return replace(session, clock=replace(session.clock, question=question))


def _counts(kept: CarriedQuestion, session: Session, at: Instant) -> bool:
    """Say whether the time since a question was measured: in this boot, and without a suspend."""
    return kept.boot_id == session.facts.boot_id and at.slept_us - kept.slept_us < SLEEP_LEAST_US


def _next(done: Read, number: int, one: Carried, know: Knows, chains: Chains, at: Instant) -> Read:
    session, address = done.session, read_topic(one.topic)
    ours = address.principal is not None and address.principal.name == session.principal
    if address.direction is not Direction.FLEET and not ours:
        # Of no use here, and its digital ID is not ours to judge.
        return replace(done, others=done.others + 1)
    try:
        opened, chain = desk.open_at(session, one.raw, one.topic, chains, _judged_at(session, one.topic, at))
    except Refused as refusal:
        if refusal.code is not Code.STALE or address.kind != "command":
            raise
        return _left(done, number, address.kind, refusal)
    admitted = desk.take(session, opened, chain)
    if address.kind == "command" and not admitted.duplicate and not can_judge(session, at):
        return replace(done, held=done.held + 1)
    try:
        turn = desk.handle(admitted, know(admitted.said.body), session, at)
    except Refused as refusal:
        if address.kind not in ALONE:
            raise
        return _left(done, number, address.kind, refusal)
    if address.kind == "time":
        turn = turn.on(replace(turn.session, kept=replace(turn.session.kept, carried=None)))
    return replace(done, turn=done.turn.also(turn), taken=done.taken + Counter([address.kind]))


def _left(done: Read, number: int, kind: str, refusal: Refused) -> Read:
    return replace(done, left=(*done.left, f"line {number}: {kind}: {refusal}"))


def _judged_at(session: Session, topic: str, at: Instant) -> datetime | None:
    """Return the moment that a message is judged at: the beacon tells it is at least now, all else is held to that."""
    if topic == BEACON and not session.clock.synced(at.boot_us):
        return None
    return session.clock.now(at.boot_us)


def can_judge(session: Session, at: Instant) -> bool:
    """Say whether it can be told of anything that it has not expired: some answer has bounded the time in this boot."""
    return session.clock.latest_at(at.boot_us) < FAR_FUTURE_US


def step(session: Session, at: Instant) -> Turn:
    """Do what a bundle brought, as far as it can be done without a line."""
    if session.stage is Stage.RESTING:
        return key_order.step(session, at)
    # Without a line nobody greets: at a visit the device stands as if it had been.
    standing = replace(session, stage=Stage.WORKING)
    return in_order(standing, at, (retirement.step, key_order.step, commands.step, _sync_time, receipts.step))


def _sync_time(session: Session, at: Instant) -> Turn:
    """End a ``sync-time`` at once: by this bundle's answer, or not at all."""
    if session.synced_us == at.boot_us:
        return commands.time_learnt(session, at)
    job = session.jobs[0] if session.jobs else None
    if job is None or job.verb is not Verb.SYNC_TIME or job.started_us is None:
        return Turn(session)
    return commands.finish(session, at, job, ResultState.FAILED, ResultReason.CLOCK)


def asked(session: Session, at: Instant) -> Session:
    """Return the session with a question to carry: the one without an answer, else a new one."""
    kept = session.kept.carried
    if kept is not None and _counts(kept, session, at):
        return session
    question = CarriedQuestion(b64url(at.draw("carried nonce")), at.boot_us, session.facts.boot_id, at.slept_us)
    return replace(session, kept=replace(session.kept, carried=question))


def waiting(session: Session, outbox: Outbox) -> list[Report]:
    """Return the reports to carry, most urgent first; of a retiring device its last word alone."""
    order = session.kept.order
    if session.retiring and order is not None:
        return list(outbox.reports((order.result_id or "",)).values())
    return outbox.waiting(MOST_ANSWERS)
