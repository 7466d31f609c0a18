"""The envelope: every message both ways is one compact JWS, sealed and opened here and nowhere else.

``open_sealed`` makes the checks of protocol section 3 in their order, first failure wins; ``seq`` and the body follow
in ``admit``, since the replay window belongs to the receiver's state. Nothing is believed before the signature.
Source: C2 (signed both ways, moment in milliseconds inside, digital ID in every message), C6; RFC 7515, RFC 8725.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from fleetward_schemas import moment
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.header import TYP, Header, header_segment, read_header
from fleetward_schemas.jws import PrivateKey, PublicKey, alg_for, alg_of, compact, split, verify
from fleetward_schemas.messages import AHEAD_S, KINDS, Kind
from fleetward_schemas.presence import Status
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.shapes import Body, MessageId, Moment, UpBody
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, read_object, show_der
from fleetward_schemas.topics import Address, Direction, Principal, Role, read_topic


class Members(UpBody, frozen=True, kw_only=True):
    """The payload's members. digitalId: who speaks (up) or is spoken to (down); expires: commands alone."""

    id: MessageId
    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    topic: Annotated[str, Meta(min_length=1, max_length=128)]
    seq: Annotated[int, Meta(ge=0, lt=2**53)]
    timestamp: Moment
    digitalId: Annotated[str, Meta(min_length=1, max_length=8192)]  # noqa: N815
    inReplyTo: MessageId | None = None  # noqa: N815
    expires: Moment | None = None
    body: dict[str, Any]


class DownMembers(Members, frozen=True, forbid_unknown_fields=False):
    """Downlink: an old agent ignores members it does not know."""


class Opened(NamedTuple):
    """A message whose signature held. kind: its line of KINDS; at: its timestamp; expires: None where it has none."""

    kind: Kind
    address: Address
    header: Header
    members: Members
    at: datetime
    expires: datetime | None

    @property
    def id(self) -> str:
        """The message's id."""
        return self.members.id


class Trust(Protocol):
    """Who may sign what: the receiver's knowledge, asked once per message."""

    def signer(self, header: Header, principal: Principal | None, members: Members) -> PublicKey:
        """Return the key that must have signed.

        Raises:
            Refused: ``unknown-signer`` (up) or ``wrong-server`` (down).
        """
        ...


@dataclass(frozen=True, slots=True)
class Seal:
    """A key with its encoded header, made once and used for many messages."""

    key: PrivateKey
    header_segment: bytes

    @classmethod
    def by_chain(cls, key: PrivateKey, chain: tuple[bytes, ...]) -> "Seal":
        """Seal with the whole chain in ``x5c``: server messages, and those of ``f-`` principals."""
        return cls(key, header_segment({"alg": alg_of(key), "typ": TYP, "x5c": [show_der(der) for der in chain]}))

    @classmethod
    def by_thumbprint(cls, key: PrivateKey, x5t: str) -> "Seal":
        """Seal with ``x5t#S256`` of the device certificate: messages of devices."""
        return cls(key, header_segment({"alg": alg_of(key), "typ": TYP, "x5t#S256": x5t}))


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be said, before it is sealed. seq: 0 for nonce-bound kinds."""

    topic: str
    id: str
    seq: int
    digital_id: str
    body: Body
    in_reply_to: str | None = None
    expires: datetime | None = None


def seal(draft: Draft, with_seal: Seal, now: datetime) -> bytes:
    """Return the compact JWS of ``draft``, stamped ``now``.

    Raises:
        LocalMistake: the topic is not of this protocol, the body is not of its kind or one that its receiver would
            refuse, or the result is over 48 KiB.
    """
    address = _own_address(draft.topic)
    kind = KINDS.get((address.direction, address.kind))
    if kind is None or not isinstance(draft.body, kind.body):
        raise LocalMistake(f"{draft.topic} does not take a {type(draft.body).__name__}")
    payload: dict[str, Any] = {
        "id": draft.id,
        "kind": kind.name,
        "topic": draft.topic,
        "seq": 0 if kind.nonce_bound else draft.seq,
        "timestamp": moment.show(now),
        "digitalId": draft.digital_id,
    }
    if draft.in_reply_to is not None:
        payload["inReplyTo"] = draft.in_reply_to
    if draft.expires is not None:
        payload["expires"] = moment.show(draft.expires)
    payload["body"] = draft.body.checked()
    sealed = compact(with_seal.header_segment, msgspec.json.encode(payload), with_seal.key)
    if len(sealed) > MAX_ENVELOPE_BYTES:
        raise LocalMistake(f"{len(sealed)} bytes sealed: at most {MAX_ENVELOPE_BYTES}")
    return sealed


def _own_address(topic: str) -> Address:
    try:
        return read_topic(topic)
    except Refused:
        raise LocalMistake(f"{topic!r} is not a topic of this protocol") from None


def open_sealed(raw: bytes, topic: str, trust: Trust, now: datetime | None) -> Opened:
    """Open one message that arrived on ``topic`` and check all that needs no state of the sender.

    now: the receiver's trusted time; None while it has none, when timestamps are not judged.

    Raises:
        Refused: the first check that failed: ``too-large malformed bad-alg wrong-topic unknown-kind not-allowed stale
            unknown-signer wrong-server bad-signature``.
    """
    token = split(raw)
    direction = _direction(topic)
    members = _members(read_object(token.payload), direction)
    header = read_header(token.header_segment)
    address = _address(topic, members)
    _form(header, address)
    kind = _kind(address, members)
    at = moment.parse(members.timestamp)
    expires = None if members.expires is None else moment.parse(members.expires)
    _fresh(kind, members, (at, expires), now)
    key = trust.signer(header, address.principal, members)
    if alg_for(key) is not header.alg:
        raise Refused(Code.BAD_ALG, f"{header.alg} with a key for {alg_for(key)}")
    verify(key, token.signed, token.signature)
    return Opened(kind, address, header, members, at, expires)


def admit(opened: Opened, window: ReplayWindow) -> ReplayWindow | None:
    """Return the window with this message's number taken; None for a duplicate, which changes nothing.

    Raises:
        Refused: ``replayed``: below the window.
    """
    if opened.kind.nonce_bound:
        return window
    if window.holds(opened.members.seq):
        return None
    return window.accept(opened.members.seq)


def read_body(opened: Opened) -> Body:
    """Return the body in its kind's shape.

    Raises:
        Refused: ``bad-body``, naming the first member of ours that does not fit, never its value.
    """
    try:
        return opened.kind.body.read(opened.members.body)
    except Refused as refusal:
        raise Refused(Code.BAD_BODY, f"{opened.kind.name} {refusal.detail}") from None


def _direction(topic: str) -> Direction:
    """Return which way a message travels, by where it arrived; an unknown topic is judged with the members."""
    try:
        return read_topic(topic).direction
    except Refused:
        return Direction.UP


def _members(payload: dict[str, Any], direction: Direction) -> Members:
    model = Members if direction is Direction.UP else DownMembers
    try:
        return model.read(payload)
    except Refused as refusal:
        raise Refused(Code.MALFORMED, f"payload {refusal.detail}") from None


def _address(topic: str, members: Members) -> Address:
    address = read_topic(topic)
    if members.topic != topic or members.kind != address.kind:
        raise Refused(Code.WRONG_TOPIC, "the signed topic and kind are not where it arrived")
    return address


def _form(header: Header, address: Address) -> None:
    """Devices name their certificate by thumbprint; the server and ``f-`` principals bring the chain."""
    device = address.direction is Direction.UP and address.principal is not None
    by_thumbprint = device and address.principal is not None and address.principal.role is Role.DEVICE
    if by_thumbprint != (header.x5t is not None):
        raise Refused(Code.MALFORMED, f"this sender names its key by {'x5t#S256' if by_thumbprint else 'x5c'}")


def _kind(address: Address, members: Members) -> Kind:
    kind = KINDS.get((address.direction, address.kind))
    if kind is None:
        raise Refused(Code.UNKNOWN_KIND, "no such kind in this direction")
    if address.principal is not None and address.principal.role not in kind.principals:
        raise Refused(Code.NOT_ALLOWED, f"{kind.name} is not for {address.principal.role} principals")
    if kind.expires != (members.expires is not None):
        raise Refused(Code.MALFORMED, f"{kind.name} {'needs' if kind.expires else 'takes no'} expires")
    return kind


def _fresh(kind: Kind, members: Members, moments: tuple[datetime, datetime | None], now: datetime | None) -> None:
    at, expires = moments
    if now is None or kind.max_age_s is None:
        return
    age_s = (now - at).total_seconds()
    if age_s < -AHEAD_S:
        raise Refused(Code.STALE, f"stamped {-age_s:.0f} s ahead: at most {AHEAD_S}")
    if age_s > kind.max_age_s and not _is_will(kind, members):
        raise Refused(Code.STALE, f"stamped {age_s:.0f} s ago: at most {kind.max_age_s}")
    if expires is not None and expires <= now:
        raise Refused(Code.STALE, "expired")


def _is_will(kind: Kind, members: Members) -> bool:
    """Say whether this is an ``offline``: signed at CONNECT and told when the line dies, it is of any age."""
    return kind.body is Status and members.body.get("state") == "offline"
