"""Enrolment at the device: a device that nobody touched proves itself, gets two certificates, and begins to work.

What an enrolment speaks with (its digital ID, the names of its keys, its hello) is written down before it is used, so a
crash goes on with the same keys and gets the same certificates. Source: C1, C3; protocol section 5 "First contact".
"""

from dataclasses import replace
from datetime import datetime

from cryptography.x509 import ObjectIdentifier

from fleetward_agent import VERSION
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.session import Ask, Greeting, Session, asked, doom, drop_ask, key_names, move, new_id, put_ask
from fleetward_agent.state import Candidate, Gone, Kept, Pair
from fleetward_agent.turn import (
    Adopt,
    Adopted,
    FirstSigned,
    KeysMade,
    Known,
    MakeKeys,
    Note,
    Said,
    Say,
    SignFirst,
    Turn,
    in_order,
)
from fleetward_agent.walk import SHUT_OUT_S, Stage, Step, may_advance
from fleetward_schemas.certificates import (
    CLIENT_AUTH,
    DEVICE_SIGNING,
    Chain,
    Unit,
    has_purpose,
    key_thumbprint,
    public_key,
    read_certificate,
)
from fleetward_schemas.enrol import CHALLENGE_LIFE_S, PROTOCOL, Challenge, Enrol, Enrolled, Hello, Reason
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.moment import to_ms
from fleetward_schemas.strict import b64_der, b64url

DAY_S = 86_400
RETRY_S = 60
_FINAL = {Reason.RETIRED, Reason.REVOKED}
_REPEATED = ("hello", "enrol", "status", "csr")


def step(session: Session, at: Instant) -> Turn:
    """Do what enrolment wants now: wake, come back to the factory's door, sign, greet, give up a lapsed challenge."""
    return in_order(session, at, (_wake, _expire, _unknown, _identity, _lapse, _hello, _repeat))


def _wake(session: Session, at: Instant) -> Turn:
    if session.stage is not Stage.RESTING or at.boot_us < session.rest_us:
        return Turn(session)
    return Turn(replace(move(session, Step.WOKEN), hello_us=at.boot_us))


def _expire(session: Session, at: Instant) -> Turn:
    """Enrol again when a certificate has ended in trusted time (while unsynced: at the floor, so surely ended)."""
    end = session.certificate_end
    if not may_advance(session.stage, Step.EXPIRED) or end is None or session.clock.now(at.boot_us) <= end:
        return Turn(session)
    return Turn(move(session, Step.EXPIRED), notes=(Note("certificate-expired"),))


def _unknown(session: Session, _: Instant) -> Turn:
    """Prove ourselves anew to a server that is there and has answered us nothing for an hour: it may have lost us."""
    patient = session.ignored_us < SHUT_OUT_S * SECOND_US or session.retiring
    if patient or not may_advance(session.stage, Step.SHUT_OUT):
        return Turn(session)
    return Turn(replace(move(session, Step.SHUT_OUT), ignored_us=0), notes=(Note("unanswered"),))


def _identity(session: Session, _: Instant) -> Turn:
    """Have a digital ID signed: a passing one to ask the time with, then the one of this enrolment."""
    if session.stage is Stage.FACTORY_TIME and session.digital_id is None:
        return Turn(session, effects=(SignFirst(),))
    if session.stage is Stage.HELLO and session.kept.candidate is None:
        return Turn(session, effects=(SignFirst(),))
    return Turn(session)


def on_first_signed(outcome: FirstSigned, session: Session, at: Instant) -> Turn:
    """Begin an enrolment under a digital ID of this moment; while the time is unknown, only speak with it."""
    if session.stage is not Stage.HELLO:
        return Turn(replace(session, provisional=outcome.digital_id))
    candidate = Candidate(*key_names(at), outcome.digital_id)
    return Turn(replace(session, kept=replace(session.kept, candidate=candidate)))


def _lapse(session: Session, at: Instant) -> Turn:
    """Ask anew when a challenge was not answered within its life."""
    if session.stage is not Stage.ENROL or at.boot_us < session.lapse_us:
        return Turn(session)
    return Turn(replace(move(session, Step.LAPSED), hello=None, kept=_forget_hello(session)))


def _hello(session: Session, at: Instant) -> Turn:
    """Open a hello where none is."""
    candidate = session.kept.candidate
    ready = session.stage is Stage.HELLO and session.connected and candidate is not None
    if not ready or candidate is None or "hello" in session.asks or at.boot_us < session.hello_us:
        return Turn(session)
    if candidate.hello_id is not None and candidate.nonce is not None:
        # Begun before a crash: the same hello gets the same challenge.
        greeting = Greeting(candidate.hello_id, candidate.nonce)
    else:
        session, made = new_id(session, at, "hello")
        greeting = Greeting(made, b64url(at.draw("hello nonce")))
    body = Hello(
        nonce=greeting.nonce,
        certification=session.facts.certification,
        purpose=session.facts.purpose,
        protocol=[PROTOCOL],
        agentVersion=VERSION,
        current=session.current,
    )
    return Turn(put_ask(replace(session, hello=greeting), "hello", Ask(greeting.id, body, at.boot_us)))


def _repeat(session: Session, at: Instant) -> Turn:
    """Say again what nobody answered (``time`` has its own, since each of its questions is a new one)."""
    turn = Turn(session)
    for kind in _REPEATED:
        ask = turn.session.asks.get(kind)
        if ask is not None and ask.body is not None and session.connected and ask.due_us <= at.boot_us:
            said = Say(kind, ask.id, ask.body, ask.in_reply_to)
            turn = turn.also(Turn(asked(turn.session, kind, ask, at), says=(said,)))
    return turn


def on_challenge(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Have the keys made that the challenge is answered with.

    Raises:
        Refused: ``bad-nonce``: it answers no hello that is open.
    """
    challenge, hello, candidate = said.body, session.hello, session.kept.candidate
    if not isinstance(challenge, Challenge):
        raise LocalMistake("on_challenge was given another kind")
    if session.stage is not Stage.HELLO or hello is None or candidate is None:
        raise Refused(Code.BAD_NONCE, "no hello is open")
    if (said.opened.members.inReplyTo, challenge.nonce) != (hello.id, hello.nonce):
        raise Refused(Code.BAD_NONCE, "the challenge answers another hello")
    settings = challenge.settings
    candidate = replace(candidate, hello_id=hello.id, nonce=hello.nonce)
    kept = replace(session.kept, candidate=candidate, telemetry_s=settings.telemetryS, time_s=settings.timeS)
    session = replace(session, kept=kept, server_nonce=challenge.serverNonce, lapse_us=at.after_s(CHALLENGE_LIFE_S))
    session = move(replace(session, dials=0), Step.CHALLENGED)
    return Turn(session, effects=(MakeKeys(candidate.device_key, candidate.transport_key),))


def on_keys_made(outcome: KeysMade, session: Session, at: Instant) -> Turn:
    """Bring both requests to the server."""
    nonce, hello = session.server_nonce, session.hello
    if session.stage is not Stage.ENROL or nonce is None or hello is None:
        return Turn(session)
    body = Enrol(serverNonce=nonce, deviceCsr=outcome.device_csr, transportCsr=outcome.transport_csr)
    session, made = new_id(session, at, "enrol")
    session = replace(session, enrol_id=made, csr_keys=outcome.keys)
    return Turn(put_ask(session, "enrol", Ask(made, body, at.boot_us, in_reply_to=hello.id)))


def on_enrolled(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Take the answer: certificates, a wait, or the end.

    Raises:
        Refused: ``bad-nonce`` when it answers nothing of ours; ``bad-body`` when its chains are not ours;
            ``wrong-server`` when it speaks for another environment.
    """
    enrolled = said.body
    if not isinstance(enrolled, Enrolled):
        raise LocalMistake("on_enrolled was given another kind")
    if enrolled.env is not session.facts.env:
        raise Refused(Code.WRONG_SERVER, f"the server is of {enrolled.env}: this device of {session.facts.env}")
    if session.principal == session.facts.device_id:
        return _late(enrolled, session)
    answered = said.opened.members.inReplyTo
    ours = {session.enrol_id, None if session.hello is None else session.hello.id} - {None}
    if answered not in ours:
        raise Refused(Code.BAD_NONCE, "it answers nothing that was asked")
    if enrolled.status == "registered":
        return _registered(enrolled, session, at)
    return _held(enrolled, session, at)


def _late(enrolled: Enrolled, session: Session) -> Turn:
    """Take a device code that came after the certificates it belongs to."""
    pair = session.kept.pair
    if pair is None or enrolled.deviceCode is None or tuple(enrolled.deviceChain or ()) != pair.device_chain:
        return Turn(session)
    kept = replace(session.kept, device_code=enrolled.deviceCode)
    return Turn(replace(session, kept=kept), notes=(Note("device-code"),))


def _held(enrolled: Enrolled, session: Session, at: Instant) -> Turn:
    """Wait as long as the server says; a day and without a line when it says retired or revoked."""
    note = Note("enrolment-held", (("status", enrolled.status), ("reason", enrolled.reason or "")))
    wait_s = enrolled.retryAfterS or RETRY_S
    if enrolled.reason in _FINAL:
        gone = Gone(str(enrolled.reason), to_ms(session.clock.now(at.boot_us)))
        session = replace(session, kept=replace(session.kept, gone=gone), rest_us=at.after_s(max(wait_s, DAY_S)))
        return Turn(move(replace(session, hello=None), Step.GONE), notes=(note,))
    kept = _forget_hello(session)
    candidate = session.kept.candidate
    session = replace(session, kept=kept, hello_us=at.after_s(wait_s), dials=0)
    if enrolled.reason == Reason.BAD_CSR and candidate is not None:
        # Keys the fleet knows already: the next enrolment makes others.
        kept = doom(session, (candidate.device_key, candidate.transport_key))
        session = replace(session, kept=replace(kept, candidate=None))
    return Turn(_waiting(session), notes=(note,))


def _waiting(session: Session) -> Session:
    return drop_ask(move(session, Step.HELD), "hello")


def _forget_hello(session: Session) -> Kept:
    """Return what is kept, without the hello: the next one is a new one."""
    candidate = session.kept.candidate
    if candidate is None or candidate.hello_id is None:
        return session.kept
    return replace(session.kept, candidate=replace(candidate, hello_id=None, nonce=None))


def _registered(enrolled: Enrolled, session: Session, at: Instant) -> Turn:
    """Check that both chains are ours before anything is changed."""
    now, device_id = session.clock.now(at.boot_us), session.facts.device_id
    device = own_chain(session, enrolled.deviceChain or [], f"sign-{device_id}", DEVICE_SIGNING, now)
    transport = own_chain(session, enrolled.transportChain or [], device_id, CLIENT_AUTH, now)
    keys = (key_thumbprint(device.key), key_thumbprint(transport.key))
    if session.kept.pair is not None and keys == pair_keys(session.kept.pair):
        return _adopt(session, session.kept.pair, enrolled)
    candidate = session.kept.candidate
    if candidate is None or keys != session.csr_keys:
        raise Refused(Code.BAD_BODY, "the certificates are for other keys than ours")
    chains = tuple(enrolled.deviceChain or ()), tuple(enrolled.transportChain or ())
    pair = Pair(candidate.device_key, candidate.transport_key, *chains, candidate.digital_id)
    return _adopt(session, pair, enrolled)


def _adopt(session: Session, pair: Pair, enrolled: Enrolled) -> Turn:
    kept = replace(session.kept, device_code=enrolled.deviceCode or session.kept.device_code)
    return Turn(replace(session, kept=kept), effects=(Adopt(pair),))


def own_chain(session: Session, chain: list[str], name: str, purpose: ObjectIdentifier, now: datetime) -> Chain:
    """Return a chain that names this device, under our device CA.

    Raises:
        Refused: ``bad-body``.
    """
    try:
        verified = session.facts.anchors.verify(tuple(b64_der(one) for one in chain), now)
    except Refused as refusal:
        raise Refused(Code.BAD_BODY, f"the chain for {name}: {refusal.detail}") from None
    if (verified.name, verified.unit) != (name, Unit.DEVICE) or not has_purpose(verified.leaf, purpose):
        raise Refused(Code.BAD_BODY, f"a chain for {verified.name!r} under {verified.unit!r}: expected {name!r}")
    return verified


def pair_keys(pair: Pair) -> tuple[str, str]:
    """Return the thumbprints of a pair's keys, device first."""
    device, transport = (read_certificate(b64_der(chain[0])) for chain in (pair.device_chain, pair.transport_chain))
    return key_thumbprint(public_key(device)), key_thumbprint(public_key(transport))


def on_adopted(outcome: Adopted, session: Session, at: Instant) -> Turn:
    """Begin to work with a pair; the keys it replaces are destroyed once this is written down."""
    if not may_advance(session.stage, Step.REGISTERED):
        return Turn(session)
    before = (session.kept.pair, session.kept.previous, session.kept.candidate)
    names = {name for old in before if old is not None for name in (old.device_key, old.transport_key)}
    kept = doom(session, names - {outcome.pair.device_key, outcome.pair.transport_key})
    kept = replace(kept, pair=outcome.pair, previous=None, candidate=None, gone=None)
    session = replace(session, kept=kept, hello=None, enrol_id=None, csr_keys=None, server_nonce=None, provisional=None)
    session = replace(session, dials=0, refused_since_us=None, telemetry_us=at.boot_us, old=False)
    return Turn(move(session, Step.REGISTERED), notes=(Note("registered"),))
