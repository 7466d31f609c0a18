"""Encryption certificates at the device: believed under the anchors of MOSIP that the factory put in, never older ones.

The server's word brings a certificate and does not make it true; one that begins before the one held was true once, and
is what a broker would say again. Without anchors none is believed. Source: E1, E2; C6; MOSIP 0.9.5, error 108.
"""

from dataclasses import replace
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256

from fleetward_agent.instant import Instant
from fleetward_agent.session import Session
from fleetward_agent.state import EncryptFor
from fleetward_agent.turn import Known, Note, Said, Turn
from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.encryption import MAX_DOMAINS, Encryption, MosipAnchors, believed
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.strict import b64_der


def on_encryption(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Keep the certificate of a domain.

    Raises:
        Refused: ``wrong-server`` when it speaks for another environment; ``bad-body`` when MOSIP's anchors do not lead
            to it now, when it begins before the one held, or when there are too many domains.
    """
    body = said.body
    if not isinstance(body, Encryption):
        raise LocalMistake("on_encryption was given another kind")
    if body.env is not session.facts.env:
        raise Refused(Code.WRONG_SERVER, f"the server is of {body.env}: this device of {session.facts.env}")
    anchors = session.facts.mosip
    if anchors is None:
        # C10: the domain is a text that somebody else chose; no log line holds it.
        return Turn(session, notes=(Note("encryption-certificate-unbelieved", ()),))
    held = {one.domain_uri: one.certificate for one in session.kept.encryption}
    if held.get(body.domainUri) == body.certificates[0]:
        return Turn(session)
    if body.domainUri not in held and len(held) >= MAX_DOMAINS:
        raise Refused(Code.BAD_BODY, f"encryption certificates of more than {MAX_DOMAINS} domains")
    _check(body, anchors, held.get(body.domainUri), session.clock.now(at.boot_us))
    kept = [EncryptFor(domain, one) for domain, one in (held | {body.domainUri: body.certificates[0]}).items()]
    session = replace(session, kept=replace(session.kept, encryption=tuple(kept)))
    return Turn(session, notes=(Note("encryption-certificate", (("thumbprint", _thumbprint(body)),)),))


def _thumbprint(body: Encryption) -> str:
    """Return what captures call the certificate: SHA-256 in upper-case hexadecimal."""
    return read_certificate(b64_der(body.certificates[0])).fingerprint(SHA256()).hex().upper()


def _check(body: Encryption, anchors: MosipAnchors, held: str | None, now: datetime) -> None:
    try:
        found = believed(body, anchors, now)
    except Refused as refusal:
        raise Refused(Code.BAD_BODY, f"encryption certificate: {refusal.code}: {refusal.detail}") from None
    if held is None:
        return
    before = read_certificate(b64_der(held)).not_valid_before_utc
    # C8: what was true once is not served again.
    if found.not_valid_before_utc < before:
        raise Refused(Code.BAD_BODY, f"it begins {found.not_valid_before_utc:%Y-%m-%d}: the one held {before:%Y-%m-%d}")
