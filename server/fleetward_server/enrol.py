"""Enrolment at the server: who may have certificates, decided here alone and written down as a checklist.

What a device claims is never believed: its level, purpose and FTM key come from the provider's record, and a claim
that differs is refused. Every step may come again after a crash on either side and gives the same certificates.
Source: S1, S5, C1, C3, K1; protocol section 5 "First contact".
"""

from dataclasses import replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import SignatureAlgorithmOID

from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.enrol import (
    CHALLENGE_LIFE_S,
    PROTOCOL,
    Challenge,
    Enrol,
    Enrolled,
    Event,
    Hello,
    Reason,
    Settings,
    advance,
)
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.jws import PublicKey, approved
from fleetward_schemas.rotation import Csr
from fleetward_schemas.strict import b64_der, b64url, show_der
from fleetward_schemas.topics import down
from fleetward_server import state
from fleetward_server.changes import AddAudit, AddCertificates, BindFtm, Change, CountRefusal, PutChallenge, PutDevice
from fleetward_server.checklist import GONE, WAITING, Claim, judge
from fleetward_server.state import AuditEntry, Certificate, Device, Use
from fleetward_server.turn import Issued, IssuePair, Known, Policy, Reply, Said, Turn

ASK_DAILY_S = 86_400
ASK_AT_ONCE_S = 1
ASK_SOON_S = 5
_SIGNED_BY = {SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.ED25519}
CODES = {Reason.MISMATCH: Code.MISMATCH, Reason.CLONE: Code.CLONE, Reason.BAD_CSR: Code.BAD_CSR}


def on_hello(said: Said, known: Known, policy: Policy) -> Turn:
    """Answer a first word: with a challenge, the stored chains, or a reason."""
    hello = _hello(said)
    if PROTOCOL not in hello.protocol:
        return _answer(said, policy, Reason.PROTOCOL)
    judged = judge(said, known, policy, Claim(hello.certification, hello.purpose))
    kept = _kept_chains(hello, judged.device, known, said.arrived_at)
    if kept and judged.reason is Reason.AWAITING_APPROVAL and known.device is not None:
        # It asks for nothing that it does not hold already, so nobody has to approve anything.
        judged = replace(judged, device=known.device, reason=None)
    device = replace(
        judged.device,
        hello_digital_id=said.digital_id,
        hello_id=said.id,
        agent_version=hello.agentVersion,
        seen_at=said.arrived_at,
    )
    if judged.reason is None and kept:
        return _with(_registered(said, kept, policy, device.device_code), PutDevice(device))
    if judged.reason is not None:
        return _with(_answer(said, policy, judged.reason), *_refusal(said, known.device, device, judged.reason))
    return _challenge(said, known, policy, device)


def _hello(said: Said) -> Hello:
    if not isinstance(said.body, Hello):
        raise LocalMistake("on_hello was given another kind")
    return said.body


def _kept_chains(hello: Hello, device: Device, known: Known, now: datetime) -> tuple[Certificate, ...]:
    """Return the pair that ``current`` names while it is still good; empty when a new one is due."""
    if device.reissue or hello.current is None:
        return ()
    held = [c for c in known.chains if c.thumbprint == hello.current and c.use is Use.DEVICE and c.not_after > now]
    return _pair(known, held[0].pair) if held else ()


def _pair(known: Known, pair: str) -> tuple[Certificate, ...]:
    both = {c.use: c for c in known.chains if c.pair == pair}
    return (both[Use.DEVICE], both[Use.TRANSPORT]) if len(both) == 2 else ()


def _challenge(said: Said, known: Known, policy: Policy, device: Device) -> Turn:
    """The same hello gets the same challenge, however often it comes."""
    hello = _hello(said)
    now = said.arrived_at
    challenge = known.challenge
    if challenge is None or challenge.expires_at <= now:
        challenge = state.Challenge(
            principal=_principal(said),
            hello_id=said.id,
            device_nonce=hello.nonce,
            server_nonce=b64url(known.random),
            signer_key=key_thumbprint(said.speaker.key),
            expires_at=now + timedelta(seconds=CHALLENGE_LIFE_S),
        )
    body = Challenge(
        nonce=challenge.device_nonce,
        serverNonce=challenge.server_nonce,
        settings=Settings(telemetryS=policy.telemetry_s, timeS=policy.time_s),
    )
    reply = Reply(down(_principal(said), "challenge"), body, said.digital_id, in_reply_to=said.id)
    return Turn(changes=(PutDevice(device), PutChallenge(challenge)), replies=(reply,))


def csr_keys(asked: Enrol | Csr) -> tuple[PublicKey, PublicKey]:
    """Return the two keys that the certification requests prove, device first; nothing else is taken from them.

    Raises:
        Refused: ``bad-csr``: unreadable, not signed by its own key, a key that is not approved, or twice the same.
    """
    device, transport = _csr_key(asked.deviceCsr), _csr_key(asked.transportCsr)
    if key_thumbprint(device) == key_thumbprint(transport):
        raise Refused(Code.BAD_CSR, "device key and transport key are one")
    return device, transport


def _csr_key(text: str) -> PublicKey:
    try:
        request = x509.load_der_x509_csr(b64_der(text))
        if request.signature_algorithm_oid not in _SIGNED_BY:
            raise Refused(Code.BAD_CSR, "a request is signed with RSA and SHA-256, or Ed25519")
        if not request.is_signature_valid:
            raise Refused(Code.BAD_CSR, "the request is not signed by its own key")
        return approved(request.public_key())
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise Refused(Code.BAD_CSR, "not a PKCS#10 request over a key we know") from None
    except Refused as refusal:
        raise Refused(Code.BAD_CSR, refusal.detail) from None


def on_enrol(said: Said, known: Known, policy: Policy) -> Turn:
    """Answer two certification requests: certificates, once per pair of keys, or a reason."""
    if not isinstance(said.body, Enrol):
        raise LocalMistake("on_enrol was given another kind")
    challenge, record = known.challenge, known.device
    if record is None or challenge is None or not _fits(said, challenge):
        return _with(_answer(said, policy, Reason.CHALLENGE_EXPIRED), _count(said, Code.BAD_NONCE))
    try:
        device_key, transport_key = csr_keys(said.body)
    except Refused:
        return _with(_answer(said, policy, Reason.BAD_CSR), _count(said, Code.BAD_CSR))
    keys = (key_thumbprint(device_key), key_thumbprint(transport_key))
    if challenge.used_by is not None or all(key in {c.key_thumbprint for c in known.chains} for key in keys):
        return _again(said, known, policy, keys)
    judged = judge(said, known, policy, Claim(record.certification, record.purpose))
    if judged.reason is not None:
        return _with(_answer(said, policy, judged.reason), *_refusal(said, record, judged.device, judged.reason))
    if known.taken_keys or challenge.signer_key in keys:
        return _with(_answer(said, policy, Reason.BAD_CSR), _count(said, Code.BAD_CSR))
    floor = max((c.not_before for c in known.chains), default=None)
    return Turn(effects=(IssuePair(said.device_id, said.id, device_key, transport_key, floor),))


def _fits(said: Said, challenge: state.Challenge) -> bool:
    """The nonce is this principal's, unexpired, and the key that said hello says this too."""
    same_key = challenge.signer_key == key_thumbprint(said.speaker.key)
    return same_key and challenge.principal == _principal(said) and challenge.expires_at > said.arrived_at


def _again(said: Said, known: Known, policy: Policy, keys: tuple[str, str]) -> Turn:
    """The same two keys get the same certificates, under their own nonce or a fresh one; others get nothing by it."""
    held = {c.key_thumbprint: c for c in known.chains}
    used_by = None if known.challenge is None else known.challenge.used_by
    if used_by in {None, keys} and all(key in held for key in keys):
        code = None if known.device is None else known.device.device_code
        return _registered(said, (held[keys[0]], held[keys[1]]), policy, code)
    return _with(_answer(said, policy, Reason.CHALLENGE_EXPIRED), _count(said, Code.BAD_NONCE))


def on_issued(said: Said, issued: Issued, known: Known, policy: Policy) -> Turn:
    """Keep what the authority made, and answer. The old pair stays good until the first ``online`` under the new."""
    if known.device is None or known.challenge is None:
        raise LocalMistake("certificates for a device without a record")
    device_certificate, transport = issued.certificates
    ftm_key = key_thumbprint(said.speaker.key) if said.speaker.ftm else None
    device = replace(
        known.device,
        state=advance(known.device.state, Event.CERTIFY),
        ftm_key=known.device.ftm_key or ftm_key,
        reason=None,
        seen_at=said.arrived_at,
        changed_at=said.arrived_at,
    )
    used = replace(known.challenge, used_by=(device_certificate.key_thumbprint, transport.key_thumbprint))
    entry = AuditEntry(
        said.arrived_at, f"device:{said.device_id}", "certified", said.device_id, detail=device_certificate.thumbprint
    )
    changes: tuple[Change, ...] = (
        AddCertificates(issued.certificates),
        PutDevice(device),
        PutChallenge(used),
        AddAudit(entry),
    )
    if ftm_key is not None:
        changes = (BindFtm(ftm_key, said.device_id), *changes)
    return _with(_registered(said, issued.certificates, policy, device.device_code), *changes)


def on_busy(said: Said, _: Known, policy: Policy) -> Turn:
    """Have the device ask again soon: the authority's key is away. Its record and its nonce stay as they are."""
    soon = min(ASK_SOON_S, policy.retry_after_s)
    body = Enrolled(status="pending", reason=Reason.BUSY, retryAfterS=soon, env=policy.environment)
    return Turn(replies=(Reply(down(_principal(said), "enrolled"), body, said.digital_id, in_reply_to=said.id),))


def approved_reply(device: Device, policy: Policy) -> Reply | None:
    """Return the word to a waiting device that an operator has approved it: ask again now."""
    if device.hello_digital_id is None:
        return None
    body = Enrolled(
        status="pending", reason=Reason.AWAITING_APPROVAL, retryAfterS=ASK_AT_ONCE_S, env=policy.environment
    )
    return Reply(down(f"f-{device.id}", "enrolled"), body, device.hello_digital_id, in_reply_to=device.hello_id)


def late_code(said: Said, known: Known, policy: Policy) -> tuple[Reply, ...]:
    """Return the word to a device that does not know its code yet: what it holds, sent again with the code."""
    speaker = said.speaker.certificate
    pair = () if speaker is None else _pair(known, speaker.pair)
    code = None if known.device is None else known.device.device_code
    return _registered(said, pair, policy, code).replies if pair and code is not None else ()


def _registered(said: Said, pair: tuple[Certificate, ...], policy: Policy, code: str | None = None) -> Turn:
    device, transport = pair
    body = Enrolled(
        status="registered",
        deviceChain=[show_der(device.der), show_der(device.authority)],
        transportChain=[show_der(transport.der), show_der(transport.authority)],
        deviceCode=code,
        env=policy.environment,
    )
    return Turn(replies=(Reply(down(_principal(said), "enrolled"), body, said.digital_id, in_reply_to=said.id),))


def _answer(said: Said, policy: Policy, reason: Reason) -> Turn:
    gone = reason in {Reason.RETIRED, Reason.REVOKED}
    body = Enrolled(
        status="pending" if reason in WAITING else "refused",
        reason=reason,
        retryAfterS=ASK_DAILY_S if gone else policy.retry_after_s,
        env=policy.environment,
    )
    return Turn(replies=(Reply(down(_principal(said), "enrolled"), body, said.digital_id, in_reply_to=said.id),))


def _refusal(said: Said, before: Device | None, device: Device, reason: Reason) -> tuple[Change, ...]:
    """Write down why; a claim that differs and a clone are counted, and a clone is an alarm in the audit."""
    changes: list[Change] = []
    # A clone or a false claim changes nothing of the record it names but its counter.
    if reason not in CODES and reason not in GONE.values():
        changes.append(PutDevice(device))
    if reason in CODES:
        changes.append(_count(said, CODES[reason]))
    new = before is None or before.reason is not reason
    if reason is Reason.CLONE or (new and reason not in GONE.values()):
        action = "clone-alarm" if reason is Reason.CLONE else "enrolment-held"
        changes.append(
            AddAudit(AuditEntry(said.arrived_at, f"device:{said.device_id}", action, said.device_id, reason))
        )
    return tuple(changes)


def _count(said: Said, code: Code) -> CountRefusal:
    return CountRefusal(_principal(said), code, said.arrived_at)


def _principal(said: Said) -> str:
    principal = said.opened.address.principal
    if principal is None:
        raise LocalMistake("an enrolment on a topic without a principal")
    return principal.name


def _with(turn: Turn, *changes: Change) -> Turn:
    return turn._replace(changes=(*changes, *turn.changes))
