"""Rotation at the device: new keys beside the old ones, and no moment without a pair that the server takes.

The old pair is kept until the first ``online`` under the new one is acknowledged; whichever of the two the server takes
lets the device in. Source: S4a, C5; protocol section 5 "Rotation".
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from fleetward_agent.enrol import own_chain, pair_keys
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.key_order import end
from fleetward_agent.presence import farewell
from fleetward_agent.session import Ask, Session, doom, drop_ask, key_names, move, new_id, put_ask, swapped
from fleetward_agent.state import KeyOrder, Pair
from fleetward_agent.turn import KeysMade, Known, MakeKeys, Note, Renew, Renewed, Said, Turn, in_order
from fleetward_agent.walk import Stage, Step
from fleetward_schemas.certificates import CLIENT_AUTH, DEVICE_SIGNING, key_thumbprint, read_certificate
from fleetward_schemas.commands import ResultReason, ResultState, Verb
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.presence import StatusReason
from fleetward_schemas.rotation import Certificate, Csr
from fleetward_schemas.strict import b64_der

UNANSWERED_S = 600
"""How long ``online`` under one of two pairs may go unanswered before the other is tried."""
MOST_REFUSALS = 3


def running(session: Session) -> KeyOrder | None:
    """Return the rotation under way."""
    order = session.kept.order
    return order if order is not None and order.verb is Verb.ROTATE_KEY and order.outcome is None else None


def step(session: Session, at: Instant) -> Turn:
    """Ask for certificates where they are wanted; try the other pair when one is not answered."""
    return in_order(session, at, (_make, _turn_back))


def _make(session: Session, _: Instant) -> Turn:
    order, ready = running(session), session.stage is Stage.WORKING and session.connected and not session.redial
    if order is None or not ready or "csr" in session.asks:
        return Turn(session)
    return Turn(session, effects=(MakeKeys(order.device_key, order.transport_key),))


def on_keys_made(outcome: KeysMade, session: Session, at: Instant) -> Turn:
    """Bring both requests to the server, under one id however often."""
    order = running(session)
    if order is None or session.stage is not Stage.WORKING:
        return Turn(session)
    if order.csr_id is None:
        session, made = new_id(session, at, "csr")
        order = replace(order, csr_id=made)
        session = replace(session, kept=replace(session.kept, order=order))
    body = Csr(commandId=order.command_id, deviceCsr=outcome.device_csr, transportCsr=outcome.transport_csr)
    session = replace(session, csr_keys=outcome.keys)
    return Turn(put_ask(session, "csr", Ask(order.csr_id or "", body, at.boot_us)))


def on_certificate(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Check that both chains are for the keys of our request, and have the digital ID of their life signed.

    Raises:
        Refused: ``bad-nonce`` when it answers nothing that was asked; ``bad-body`` when its chains are not ours.
    """
    body, order = said.body, running(session)
    if not isinstance(body, Certificate):
        raise LocalMistake("on_certificate was given another kind")
    if order is None or session.csr_keys is None or session.stage is not Stage.WORKING or "csr" not in session.asks:
        raise Refused(Code.BAD_NONCE, "no certificates were asked for")
    if (said.opened.members.inReplyTo, body.commandId) != (order.csr_id, order.command_id):
        raise Refused(Code.BAD_NONCE, "the certificates answer another request")
    now, device_id = session.clock.now(at.boot_us), session.facts.device_id
    device = own_chain(session, body.deviceChain, f"sign-{device_id}", DEVICE_SIGNING, now)
    transport = own_chain(session, body.transportChain, device_id, CLIENT_AUTH, now)
    if (key_thumbprint(device.key), key_thumbprint(transport.key)) != session.csr_keys:
        raise Refused(Code.BAD_BODY, "the certificates are for other keys than ours")
    if device.leaf.not_valid_before_utc < _begun(session):
        raise Refused(Code.BAD_BODY, "the certificate begins before the one it replaces")
    if session.kept.previous is not None and session.kept.pair is not None:
        if pair_keys(session.kept.pair) != session.csr_keys:
            raise Refused(Code.BAD_BODY, "the certificates are for other keys than the ones held")
        return _redial(session, at)
    chains = tuple(body.deviceChain), tuple(body.transportChain)
    return Turn(session, effects=(Renew(Pair(order.device_key, order.transport_key, *chains, "")),))


def _begun(session: Session) -> datetime:
    pair = session.pair
    if pair is None:
        raise LocalMistake("a rotation without a certificate")
    return read_certificate(b64_der(pair.device_chain[0])).not_valid_before_utc


def on_renewed(outcome: Renewed, session: Session, at: Instant) -> Turn:
    """Write the new pair down beside the old one, and come again with it."""
    if running(session) is None or session.stage is not Stage.WORKING or session.kept.previous is not None:
        return Turn(session)
    kept = replace(session.kept, pair=outcome.pair, previous=session.kept.pair)
    return _redial(replace(session, kept=kept), at)


def _redial(session: Session, at: Instant) -> Turn:
    """Say farewell under the old pair; the next line is dialled with the new one."""
    session = replace(session, old=True)
    turn = farewell(session, at, StatusReason.ROTATED)
    session = replace(move(drop_ask(turn.session, "csr"), Step.ROTATED), redial=True, pair_us=None)
    return replace(turn.on(session), notes=(*turn.notes, Note("rotated")))


def taken(session: Session, at: Instant) -> Turn:
    """End the rotation once the server has taken the new pair: the old one is of no more use."""
    previous = session.kept.previous
    if previous is None or session.old or session.stage is not Stage.WORKING:
        return Turn(session)
    useless = (previous.device_key, previous.transport_key)
    session = replace(session, kept=replace(session.kept, previous=None))
    return end(session, at, ResultState.SUCCEEDED, None, useless)


def on_refused(session: Session, at: Instant, refused: Mapping[str, str]) -> Turn:
    """Make other keys where the server does not want these, three times at most; give up where nothing is open."""
    order = running(session)
    code = None if order is None or order.csr_id is None else refused.get(order.csr_id)
    if order is None or code not in {Code.BAD_CSR, Code.NOT_ALLOWED}:
        return Turn(session)
    if session.kept.previous is not None:
        # Certified already: the new pair is what the server waits for.
        return _redial(session, at)
    useless = (order.device_key, order.transport_key)
    session = drop_ask(session, "csr")
    if code == Code.NOT_ALLOWED or order.refusals + 1 >= MOST_REFUSALS:
        return end(session, at, ResultState.FAILED, ResultReason.CSR_REFUSED, useless)
    device_key, transport_key = key_names(at)
    again = replace(order, device_key=device_key, transport_key=transport_key, csr_id=None, refusals=order.refusals + 1)
    return Turn(replace(session, kept=replace(doom(session, useless), order=again)))


def _turn_back(session: Session, at: Instant) -> Turn:
    waits = session.stage is Stage.GREETING and session.kept.previous is not None and session.connected
    if not waits or session.pair_us is None or at.boot_us - session.pair_us < UNANSWERED_S * SECOND_US:
        return Turn(session)
    # Without a door of its own the line is closed, and the next one is dialled with the other pair.
    return Turn(replace(swapped(session), door=None), notes=(Note("other-pair"),))
