"""Intake: from raw bytes to a message a handler may believe, at the server.

Whose key may speak for a principal is decided from our own rows and anchors; the envelope's checks are the schemas'.
Caches are filled only after success. Source: protocol sections 1 and 3; S1, C2 iv, C3.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleetward_schemas.certificates import (
    CLIENT_AUTH,
    Anchors,
    Chain,
    Unit,
    common_name,
    has_purpose,
    key_thumbprint,
    public_key,
    read_certificate,
)
from fleetward_schemas.commands import Result
from fleetward_schemas.enrol import Enrol, State
from fleetward_schemas.envelope import Members, Opened, admit, read_body
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.foreign import Anchor, ForeignAnchors
from fleetward_schemas.header import Header
from fleetward_schemas.identity import Certification, SignedIdentity, device_id, read_identity
from fleetward_schemas.inventory import Info
from fleetward_schemas.jws import PublicKey
from fleetward_schemas.moment import parse_loose
from fleetward_schemas.presence import Status
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.rotation import Csr
from fleetward_schemas.telemetry import Telemetry
from fleetward_schemas.topics import DeviceId, Principal, Role
from fleetward_schemas.upgrade import Progress
from fleetward_server.caches import Caches
from fleetward_server.changes import PutWindow
from fleetward_server.enrol import csr_keys
from fleetward_server.state import Challenge, Device, FtmRoot, Use
from fleetward_server.store import Unit as Rows
from fleetward_server.turn import Known, Said, Speaker

_SILENT = {State.REVOKED, State.RETIRED}


@dataclass(frozen=True, slots=True)
class Anchorage:
    """What the server trusts: its own root for our PKI, and the FTM providers' anchors. epoch: moves with trust."""

    own: Anchors
    ftm: ForeignAnchors
    epoch: int


def anchored(own: Anchors, roots: Iterable[FtmRoot], epoch: int) -> Anchorage:
    """Return what is trusted; an FTM provider's root excuses what its operator allowed it, in its own chains alone."""
    held = (Anchor(read_certificate(one.der), frozenset(one.leniencies)) for one in roots if one.trusted)
    return Anchorage(own, ForeignAnchors(held), epoch)


class Uplink:
    """The server's ``Trust`` for one message; ``speaker`` tells afterwards whose key it was."""

    def __init__(self, rows: Rows, anchorage: Anchorage, caches: Caches, now: datetime) -> None:
        """Look keys up in ``rows`` within their transaction, at ``now``."""
        self._rows = rows
        self._anchorage = anchorage
        self._caches = caches
        self._now = now
        self.speaker: Speaker | None = None

    def signer(self, header: Header, principal: Principal | None, _: Members) -> PublicKey:
        """Return the key of the principal that must have signed.

        Raises:
            Refused: ``unknown-signer``.
        """
        if principal is None or principal.device_id is None:
            raise Refused(Code.UNKNOWN_SIGNER, "no device speaks here")
        if principal.role is Role.DEVICE:
            self.speaker = self._by_thumbprint(header, principal)
        else:
            self.speaker = self._by_chain(header, principal)
        return self.speaker.key

    def _by_thumbprint(self, header: Header, principal: Principal) -> Speaker:
        key = (header.x5t, principal.name, self._rows.epochs())
        speaker = self._caches.signers.get(key)
        if speaker is None:
            speaker = self._caches.signers.put(key, self._registered(header.x5t, principal.device_id))
        certificate = speaker.certificate
        if certificate is None or not certificate.not_before <= self._now <= certificate.not_after:
            raise Refused(Code.UNKNOWN_SIGNER, "the device certificate is not valid now")
        return speaker

    def _registered(self, thumbprint: str | None, device_id: DeviceId | None) -> Speaker:
        live = () if device_id is None else self._rows.chains(device_id)
        certificate = next((one for one in live if one.use is Use.DEVICE and one.thumbprint == thumbprint), None)
        if certificate is None:
            raise Refused(Code.UNKNOWN_SIGNER, "not a device certificate of this principal, or replaced, or revoked")
        device = self._rows.device(certificate.device_id)
        if device is None or device.state in _SILENT:
            raise Refused(Code.UNKNOWN_SIGNER, "the device was revoked or retired")
        if not self._anchorage.own.issued(certificate.authority):
            raise Refused(Code.UNKNOWN_SIGNER, "the device certificate stands under a root that was forgotten")
        key = public_key(read_certificate(certificate.der))
        return Speaker(key, certificate.thumbprint, certificate.not_after, certificate=certificate)

    def _by_chain(self, header: Header, principal: Principal) -> Speaker:
        if header.x5c is None:
            raise Refused(Code.UNKNOWN_SIGNER, "no chain")
        digest = hashlib.sha256(b"".join(len(der).to_bytes(4, "big") + der for der in header.x5c)).digest()
        key = (digest, principal.name, self._anchorage.epoch)
        found = self._caches.chains.get(key)
        if found is None or not found[0].valid_at(self._now):
            found = self._caches.chains.put(key, self._verified(header.x5c, principal))
        chain, ftm = found
        return Speaker(chain.key, chain.thumbprint, chain.not_after, ftm=ftm, leniencies=chain.leniencies)

    def _verified(self, ders: tuple[bytes, ...], principal: Principal) -> tuple[Chain, bool]:
        """Take the factory principal's own certificate, or an FTM's under an anchor of its provider."""
        leaf = read_certificate(ders[0])
        if common_name(leaf.subject) == principal.name:
            chain = self._anchorage.own.verify(ders, self._now)
            if chain.unit == Unit.FACTORY and has_purpose(leaf, CLIENT_AUTH):
                return chain, False
            raise Refused(Code.UNKNOWN_SIGNER, f"a factory certificate under {chain.unit!r}")
        return self._anchorage.ftm.verify(ders, self._now), True


class Admitted(NamedTuple):
    """A message for a handler. window: to be kept with its effects; None when its number needs none."""

    said: Said
    window: PutWindow | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message whose number was taken before: nothing changes, the stored answer is given again."""

    opened: Opened


def take(opened: Opened, speaker: Speaker, rows: Rows, caches: Caches, now: datetime) -> Admitted | Duplicate:
    """Make every check there is between an opened envelope and its handler.

    Raises:
        Refused: the first check that failed; the signature held, so the peer may be told the code.
    """
    principal = opened.address.principal
    if principal is None or principal.device_id is None:
        raise LocalMistake("a message was opened without a device's principal")
    topic = opened.members.topic
    bound = opened.kind.nonce_bound
    window = None if bound else _window(opened, rows.window(speaker.signer, topic))
    if window is None and not bound and not _is_offline(opened):
        return Duplicate(opened)
    body = read_body(opened)
    identity = _identity(opened, speaker, rows.device(principal.device_id), caches)
    said = Said(opened, body, principal.device_id, speaker, identity, now)
    if window is None:
        return Admitted(said, None)
    return Admitted(said, PutWindow(speaker.signer, topic, window, speaker.not_after))


def _window(opened: Opened, window: ReplayWindow) -> ReplayWindow | None:
    try:
        return admit(opened, window)
    except Refused:
        # A will is signed before the online it follows: its session decides (presence.py), not its number.
        if _is_offline(opened):
            return None
        raise


def _is_offline(opened: Opened) -> bool:
    return opened.kind.name == "status" and opened.members.body.get("state") == "offline"


def _identity(opened: Opened, speaker: Speaker, device: Device | None, caches: Caches) -> SignedIdentity:
    """Check the digital ID inside: this device's, signed by the key that proves it, never older than the current one.

    Raises:
        Refused: ``bad-digital-id`` or ``mismatch``. Clause C2 iv.
    """
    current, text = None if device is None else device.digital_id, opened.members.digitalId
    if current is not None and current == text:
        text = current  # Whose hash is known.
    found = caches.identities.get(text)
    if found is None:
        read = read_identity(text)
        found = caches.identities.put(text, (read, device_id(read.digital_id)))
    identity, named = found
    principal = opened.address.principal
    if principal is None or named != principal.device_id:
        raise Refused(Code.MISMATCH, "the digital ID is another device's")
    if current == text and principal.role is Role.DEVICE:
        return identity
    if not _signed_rightly(identity, speaker, device):
        raise Refused(Code.BAD_DIGITAL_ID, "the digital ID is signed by another key than this device's")
    if principal.role is Role.DEVICE and device is not None and _older(identity, device, caches):
        raise Refused(Code.BAD_DIGITAL_ID, "the digital ID is older than the current one")
    return identity


def _signed_rightly(identity: SignedIdentity, speaker: Speaker, device: Device | None) -> bool:
    if speaker.certificate is None:
        return identity.thumbprint == speaker.signer
    if device is None or not device.identity.same_device(identity.digital_id):
        return False
    if device.certification is Certification.L1:
        return device.ftm_key is not None and key_thumbprint(identity.key) == device.ftm_key
    return identity.thumbprint == speaker.signer


def _older(identity: SignedIdentity, device: Device, caches: Caches) -> bool:
    if device.digital_id is None:
        return False
    found = caches.identities.get(device.digital_id)
    current = read_identity(device.digital_id) if found is None else found[0]
    return parse_loose(identity.digital_id.dateTime) < parse_loose(current.digital_id.dateTime)


def know(said: Said, rows: Rows, random: bytes) -> Known:
    """Read what the store knows that this message touches."""
    device = rows.device(said.device_id)
    match said.body:
        case Telemetry() | Status():
            return Known(device)
        case Result(commandId=command_id):
            return Known(device, command=rows.command(command_id))
        case Info():
            return Known(device, chains=rows.chains(said.device_id))
        case Progress(assignmentVersion=version, name=name):
            counting = rows.counting(said.device_id)
            return Known(
                device,
                assignment=rows.assignment(said.device_id, version),
                counts=0 if counting is None else counting.version,
                upgrade=rows.upgrade(said.device_id, name),
            )
        case Csr() as csr:
            chains = rows.chains(said.device_id)
            return Known(device, command=rows.command(csr.commandId), chains=chains, taken_keys=_taken(csr, rows))
        case Enrol() as enrol:
            challenge = rows.challenge_of_nonce(_name(said), enrol.serverNonce)
            return _know_enrolment(said, rows, device, challenge, _taken(enrol, rows), random)
        case _ if said.opened.kind.name == "hello":
            challenge = rows.challenge_of_hello(_name(said), said.id)
            return _know_enrolment(said, rows, device, challenge, frozenset(), random)
        case _:
            return Known(device)


def _know_enrolment(
    said: Said, rows: Rows, device: Device | None, challenge: Challenge | None, taken: frozenset[str], random: bytes
) -> Known:
    return Known(
        device=device,
        model_approved=rows.model_approved(said.identity.digital_id),
        ftm_owner=rows.ftm_owner(key_thumbprint(said.speaker.key)) if said.speaker.ftm else None,
        challenge=challenge,
        chains=rows.chains(said.device_id),
        taken_keys=taken,
        random=random,
    )


def _taken(asked: Enrol | Csr, rows: Rows) -> frozenset[str]:
    try:
        return rows.taken_keys({key_thumbprint(key) for key in csr_keys(asked)})
    except Refused:
        return frozenset()


def _name(said: Said) -> str:
    principal = said.opened.address.principal
    if principal is None:
        raise LocalMistake("a message without a principal")
    return principal.name
