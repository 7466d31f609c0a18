"""The device's desk: which handler takes which kind, and what stands between raw bytes and that handler.

``open_message`` makes the envelope's checks under our own trust; ``take`` those of number, shape and digital ID, which
must be ours. While the time is unknown nothing but ``time`` is looked at. Source: protocol section 3; C2 iv, C6.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from fleetward_agent import (
    clock,
    commands,
    encryption,
    enrol,
    key_order,
    receipts,
    retirement,
    rotation,
    telemetry,
    upgrade,
    upgrade_assign,
    upgrade_health,
    upgrade_reading,
)
from fleetward_agent.instant import Instant
from fleetward_agent.session import Session
from fleetward_agent.trust import Chains, Downlink, check_server_identity
from fleetward_agent.turn import (
    Adopted,
    Destroyed,
    FirstSigned,
    InfoSigned,
    KeysMade,
    Known,
    Note,
    Outcome,
    PutWindow,
    ReadingTaken,
    Renewed,
    Said,
    Turn,
    in_order,
)
from fleetward_agent.upgrade_effects import ScannerSeen, UpgradeOutcome
from fleetward_agent.walk import Stage
from fleetward_schemas import clock as law
from fleetward_schemas.certificates import Chain
from fleetward_schemas.envelope import Opened, admit, open_sealed, read_body
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import Address, Direction, principal_of

MOST_TOPIC_CHARS = 128
Handler = Callable[[Said, Known, Session, Instant], Turn]

HANDLERS: dict[str, Handler] = {
    "time": clock.on_time,
    "challenge": enrol.on_challenge,
    "enrolled": enrol.on_enrolled,
    "ack": receipts.on_ack,
    "command": commands.on_command,
    "certificate": rotation.on_certificate,
    "encryption": encryption.on_encryption,
    "assignment": upgrade_assign.on_assignment,
    "beacon": clock.on_beacon,
    "release": upgrade_reading.on_release,
}
"""One line per kind of the downlink and the fleet; a test holds it against KINDS."""

STEPS = (
    clock.step,
    retirement.step,
    enrol.step,
    key_order.step,
    rotation.step,
    commands.step,
    upgrade.step,
    telemetry.step,
    receipts.step,
)
"""What a device does of itself, in this order, whenever something is due."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message for a handler. window: to be kept with its effects; None when its number needs none."""

    said: Said
    window: PutWindow | None
    duplicate: bool = False


def may_look(session: Session, topic: str, at: Instant) -> bool:
    """Say whether a message may be looked at now: while the time is unknown, only ``time``."""
    return session.clock.synced(at.boot_us) or topic.endswith("/down/time")


def open_message(session: Session, raw: bytes, topic: str, chains: Chains, at: Instant) -> tuple[Opened, Chain]:
    """Open one message that arrived on ``topic``.

    Raises:
        Refused: see ``open_sealed``; also ``wrong-topic`` for what is addressed to nobody here.
    """
    return open_at(
        session, raw, topic, chains, session.clock.now(at.boot_us) if session.clock.synced(at.boot_us) else None
    )


def open_at(session: Session, raw: bytes, topic: str, chains: Chains, now: datetime | None) -> tuple[Opened, Chain]:
    """Open one message as judged at ``now``; None: while the time is unknown. Raises what ``open_message`` raises."""
    trust = Downlink(chains, session.clock, now)
    opened = open_sealed(raw, topic, trust, now)
    if not _ours(session, opened.address) or trust.chain is None:
        raise Refused(Code.WRONG_TOPIC, "not addressed to this device")
    return opened, trust.chain


def _ours(session: Session, address: Address) -> bool:
    if address.direction is Direction.FLEET:
        return True
    return address.direction is Direction.DOWN and address.principal == principal_of(session.principal)


def take(session: Session, opened: Opened, chain: Chain) -> Admitted:
    """Make every check between an opened envelope and its handler.

    Raises:
        Refused: ``replayed``, ``bad-body``, ``bad-digital-id``, or ``wrong-server`` for the fleet's.
    """
    key = (chain.thumbprint, opened.members.topic)
    window = admit(opened, session.windows.get(key, ReplayWindow()))
    said = Said(opened, read_body(opened), chain)
    _check_digital_id(session, opened, chain)
    if window is None:
        return Admitted(said, None, duplicate=True)
    return Admitted(said, None if opened.kind.nonce_bound else PutWindow(*key, window, chain.not_after))


def _check_digital_id(session: Session, opened: Opened, chain: Chain) -> None:
    """Downlink echoes our digital ID byte for byte, in a rotation the other's too: after a loss of state it is dead."""
    if opened.address.direction is Direction.FLEET:
        check_server_identity(opened.members.digitalId, chain, session.facts.env)
    elif opened.members.digitalId not in session.echoes:
        raise Refused(Code.BAD_DIGITAL_ID, "the digital ID is not our current one")


def handle(admitted: Admitted, known: Known, session: Session, at: Instant) -> Turn:
    """Give a message to its handler; its number and its signer's age are kept with what it makes happen.

    Raises:
        Refused: what the handler found.
    """
    said = admitted.said
    if admitted.duplicate:
        return commands.again(known, session, at)
    leaf = said.chain.leaf.not_valid_before_utc
    turn = HANDLERS[said.opened.kind.name](said, known, session, at)
    ours = said.opened.address.direction is Direction.DOWN
    ignored_us = 0 if ours else turn.session.ignored_us
    after = replace(turn.session, clock=law.accept_signer(turn.session.clock, leaf), ignored_us=ignored_us)
    if admitted.window is None:
        return turn.on(after)
    window = admitted.window
    after = replace(after, windows={**after.windows, (window.signer, window.topic): window.window})
    # A beacon's number is kept in memory: all it can do twice is to raise a floor to the same height.
    return replace(turn, session=after, changes=(window, *turn.changes) if ours else turn.changes)


def refused(session: Session, topic: str, refusal: Refused, at: Instant) -> Turn:
    """Count a message that was refused, and tell the log."""
    turn = receipts.refuse(clock.refused(session, topic, refusal, at), refusal.code, at)
    fields = (("topic", topic[:MOST_TOPIC_CHARS]), ("code", refusal.code), ("detail", refusal.detail))
    return replace(turn, notes=(Note("refused", fields),))


def step(session: Session, at: Instant) -> Turn:
    """Do what is due."""
    return in_order(session, at, STEPS)


def keep_clock(session: Session, at: Instant) -> Turn:
    """Write the clock down now, so that a start within this boot needs no question first."""
    return Turn(clock.kept(session, at) if session.synced_us is not None else session)


def conclude(outcome: Outcome, session: Session, at: Instant) -> Turn:
    """Go on with what an effect brought."""
    if isinstance(outcome, UpgradeOutcome):
        return upgrade.conclude(outcome, session, at)
    match outcome:
        case FirstSigned():
            return enrol.on_first_signed(outcome, session, at)
        case KeysMade():
            made = enrol.on_keys_made if session.stage is Stage.ENROL else rotation.on_keys_made
            return made(outcome, session, at)
        case Renewed():
            return rotation.on_renewed(outcome, session, at)
        case Destroyed():
            return key_order.on_destroyed(outcome, session, at)
        case Adopted():
            return enrol.on_adopted(outcome, session, at)
        case InfoSigned():
            return commands.on_info(outcome, session, at)
        case ReadingTaken():
            return telemetry.on_reading(outcome, session, at)
        case ScannerSeen():
            return upgrade_health.on_scanner(outcome, session, at)
        case _:
            raise LocalMistake(f"{type(outcome).__name__} concludes nothing")
