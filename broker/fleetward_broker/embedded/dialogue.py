"""The dialogue of one connection: packets in, replies out, as a machine without I/O.

Rule: the first packet is a CONNECT whose client id carries the principal of the certificate, and nobody's session is
touched before that is known; afterwards every publish is asked of the gate. What a client may not say ends its
connection: MQTT 3.1.1 has no other clear sign. Replies leave after the commit that holds what they acknowledge.
Source: protocol section 2; MQTT 3.1.1 sections 3 and 4.8.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from fleetward_broker.embedded import wire
from fleetward_broker.embedded.router import Router
from fleetward_broker.embedded.session import Line, Session
from fleetward_broker.embedded.wire import REFUSED, Answer, Connect, Kind, Unwelcome
from fleetward_broker.framing import Packet, Splitter
from fleetward_broker.gate import Action, may
from fleetward_broker.packets import Publish, puback, read_puback, read_publish
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.topics import Principal

_SUFFIX = re.compile(r"-[A-Za-z0-9]{16,64}", re.ASCII)


@dataclass(slots=True)
class Owed:
    """What a turn leaves to do once it is committed: replies first, then what they open the way for.

    granted: filters whose retained messages follow, with their QoS; each once a turn, however often it was asked for.
    cost: packets taken, members of those that have members, and retained messages given: what the client's pace is
    charged.
    """

    replies: bytearray = field(default_factory=bytearray)
    then: list[Callable[[], None]] = field(default_factory=list)
    granted: dict[str, int] = field(default_factory=dict)
    durable: bool = False
    cost: int = 0


class Dialogue:
    """One connection's side of MQTT 3.1.1. now: POSIX seconds, given with every turn.

    is_over: DISCONNECT was said. action: what was wanted when the last refusal was raised, for the log.
    """

    def __init__(self, principal: Principal, router: Router, line: Line) -> None:
        self.keep_alive_s = 0
        self.session: Session | None = None
        self.is_over = False
        self.action = "packet"
        self._principal = principal
        self._router = router
        self._line = line
        self._splitter = Splitter()
        self._owed = Owed()

    def take(self, chunk: bytes, now: int) -> Owed:
        """Act on every packet that ``chunk`` completes; ``is_over`` after a DISCONNECT.

        Raises:
            Refused: the connection must end; with ``Unwelcome`` an answer comes first.
        """
        for packet in self._splitter.feed(chunk):
            self._act(packet, now)
            if self.is_over:
                break
        owed, self._owed = self._owed, Owed()
        return owed

    def end(self, now: int) -> None:
        """Part from the session, if there is one; the will is published unless DISCONNECT was said."""
        session, self.session = self.session, None
        if session is not None:
            self._router.leave(session, now, goodbye=self.is_over)

    def _act(self, packet: Packet, now: int) -> None:
        kind = packet.kind
        self._owed.cost += 1
        if self.session is None:
            self._connect(packet, now)
        elif kind == Kind.PUBLISH:
            self._publish(packet)
        elif kind == Kind.PUBACK:
            self._router.acknowledge(self.session, read_puback(packet))
        elif kind == Kind.SUBSCRIBE:
            self._subscribe(self.session, packet)
        elif kind == Kind.UNSUBSCRIBE:
            self._unsubscribe(self.session, packet)
        elif kind in (Kind.PINGREQ, Kind.DISCONNECT):
            wire.check_empty(packet)
            self.is_over = kind == Kind.DISCONNECT
            self._owed.replies += b"" if self.is_over else wire.PINGRESP
        else:
            raise Refused(Code.MALFORMED, f"packet type {kind} here")

    def _connect(self, packet: Packet, now: int) -> None:
        if packet.kind != Kind.CONNECT:
            raise Refused(Code.MALFORMED, f"packet type {packet.kind} before CONNECT")
        self.action = "connect"
        hello = wire.read_connect(packet)
        self._judge(hello)
        self.action = "packet"
        self.keep_alive_s = hello.keep_alive_s
        session, known = self._router.enter(self._principal, hello, self._line, now)
        self.session = session
        self._owed.replies += wire.connack(Answer.WELCOME, session_present=known)
        self._owed.durable |= session.kept
        self._owed.then.append(session.resume)

    def _judge(self, hello: Connect) -> None:
        name = self._principal.name
        # C3: the certificate names the client, so that nobody can take another's session or queue.
        if not hello.client_id.startswith(name) or not _SUFFIX.fullmatch(hello.client_id[len(name) :]):
            raise Unwelcome(Answer.BAD_CLIENT_ID, f"the client id must be {name}-<16..64 letters or digits>")
        if hello.will is not None and not self._may_say(hello.will):
            self.action = "will"
            raise Unwelcome(Answer.NOT_ALLOWED, f"a will to {ascii(hello.will.topic)[:80]}")

    def _publish(self, packet: Packet) -> None:
        sent = read_publish(packet)
        if not self._may_say(sent):
            self.action = "retain" if sent.retain else "publish"
            raise Refused(Code.NOT_ALLOWED, ascii(sent.topic)[:80])
        self._owed.durable |= self._router.publish(sent)
        if sent.qos:
            self._owed.replies += puback(sent.packet_id)

    def _may_say(self, sent: Publish) -> bool:
        return may(self._principal, Action.RETAIN if sent.retain else Action.PUBLISH, sent.topic)

    def _subscribe(self, session: Session, packet: Packet) -> None:
        packet_id, wishes = wire.read_subscribe(packet)
        self._owed.cost += len(wishes)
        codes = self._router.subscribe(session, wishes)
        self._owed.replies += wire.suback(packet_id, codes)
        self._owed.durable |= session.kept
        granted = {wanted: code for (wanted, _), code in zip(wishes, codes, strict=True) if code != REFUSED}
        if granted and not self._owed.granted:
            self._owed.then.append(partial(self._give_retained, session, self._owed))
        self._owed.granted |= granted

    def _give_retained(self, session: Session, owed: Owed) -> None:
        owed.cost += self._router.send_retained(session, owed.granted)

    def _unsubscribe(self, session: Session, packet: Packet) -> None:
        packet_id, filters = wire.read_unsubscribe(packet)
        self._owed.cost += len(filters)
        self._router.unsubscribe(session, filters)
        self._owed.replies += wire.unsuback(packet_id)
        self._owed.durable |= session.kept
