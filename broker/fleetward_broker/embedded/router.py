"""The router: sessions, subscriptions and retained messages, and who gets what. No I/O, no clock.

Rule: the gate is asked for every subscription and again for every delivery; the delivered QoS is the lower of
published and subscribed; a session belongs to the principal in its client id, and nobody else's turn touches it.
Source: protocol section 2; MQTT 3.1.1 sections 3.1.2.4, 3.3.1.3, 3.8.4 and 4.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from fleetward_broker.embedded.config import Limits
from fleetward_broker.embedded.session import Line, Session
from fleetward_broker.embedded.store import (
    Copy,
    Dequeue,
    DropSession,
    Enqueue,
    KeepMessage,
    KeepSession,
    Kept,
    Message,
    Retain,
    Store,
    Subscribe,
    Unretain,
    Unsubscribe,
)
from fleetward_broker.embedded.trie import Subscriptions, Topics
from fleetward_broker.embedded.wire import REFUSED, Connect
from fleetward_broker.gate import Action, may
from fleetward_broker.packets import Publish
from fleetward_schemas.topics import Principal, principal_of

log = logging.getLogger("fleetward.broker")


class Router:
    """All sessions of one broker."""

    def __init__(self, store: Store, limits: Limits, kept: Kept) -> None:
        self._store = store
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._crowds: dict[str, dict[str, Session]] = {}
        self._subscriptions = Subscriptions()
        self._retained: dict[str, Message] = {}
        self._retained_topics = Topics()
        self._last_number = kept.last_number
        self._restore(kept)

    @property
    def session_count(self) -> int:
        """How many sessions there are, connected or kept."""
        return len(self._sessions)

    def enter(self, principal: Principal, hello: Connect, line: Line, now: int) -> tuple[Session, bool]:
        """Give ``line`` its session, old or new; return it and whether it was there before.

        The caller checked that the client id is the principal's and the will its to publish.
        """
        old = self._sessions.get(hello.client_id)
        if old is not None and old.line is not None:
            old.line.cut("taken over")
            old = self._sessions.get(hello.client_id)
        if old is not None and hello.clean:
            self._drop(old)
            old = None
        session = old or self._begin(principal, hello, now)
        session.line, session.will, session.seen = line, hello.will, now
        if session.kept:
            self._store.write(KeepSession(session.client_id, now))
        return session, old is not None

    def leave(self, session: Session, now: int, *, goodbye: bool) -> None:
        """Part ``session`` from its line. goodbye: the client said DISCONNECT, so its will is not published."""
        will = session.will
        session.leave()
        session.seen = now
        if session.kept:
            self._store.write(KeepSession(session.client_id, now))
        else:
            self._drop(session)
        if will is not None and not goodbye:
            self.publish(will)

    def publish(self, sent: Publish) -> bool:
        """Deliver a message that the gate allowed; return whether something durable changed."""
        message = Message(sent.topic, sent.payload, sent.qos)
        if sent.retain:
            message = self._retain(message)
        for client_id, granted in self._subscriptions.match(sent.topic).items():
            session = self._sessions[client_id]
            # Asked again here: a subscription was granted by its filter, a delivery is by its topic.
            if may(session.principal, Action.RECEIVE, sent.topic):
                message = self._deliver(session, message, min(sent.qos, granted))
        return message.number > 0 or sent.retain

    def subscribe(self, session: Session, wishes: list[tuple[str, int]]) -> list[int]:
        """Judge each wish by itself and return the codes of SUBACK."""
        codes = [self._subscribe(session, wanted, min(qos, 1)) for wanted, qos in wishes]
        refused = [wanted for (wanted, _), code in zip(wishes, codes, strict=True) if code == REFUSED]
        if refused:
            fields = {"principal": session.principal.name, "action": "subscribe", "count": len(refused)}
            log.warning("refused", extra=fields | {"filter": ascii(refused[0])[:80]})
        return codes

    def send_retained(self, session: Session, granted: Mapping[str, int]) -> int:
        """Send the retained messages of filters that were granted just now, with their QoS; return how many."""
        count = 0
        for wanted, qos in granted.items():
            for topic in sorted(self._retained_topics.match(wanted)):
                if may(session.principal, Action.RECEIVE, topic):
                    message = self._retained[topic]
                    self._deliver(session, message, min(message.qos, qos), retain=True)
                    count += 1
        return count

    def unsubscribe(self, session: Session, filters: list[str]) -> None:
        """End subscriptions; unknown ones are nothing to end."""
        for wanted in filters:
            if session.subscriptions.pop(wanted, None) is not None:
                self._subscriptions.remove(wanted, session.client_id)
                if session.kept:
                    self._store.write(Unsubscribe(session.client_id, wanted))

    def acknowledge(self, session: Session, packet_id: int) -> None:
        """Take a PUBACK; one for nothing changes nothing."""
        copy = session.acknowledge(packet_id)
        if copy is not None and copy.message.number and session.kept:
            self._store.write(Dequeue(session.client_id, copy.message.number))
        if session.dropped and session.has_room:
            log.warning("queue has room", extra={"principal": session.principal.name, "dropped": session.dropped})
            session.dropped = 0

    def expire(self, before: int) -> None:
        """Forget sessions whose owner was last seen before that moment (POSIX seconds)."""
        for session in [s for s in self._sessions.values() if s.line is None and s.seen < before]:
            log.info("session expired", extra={"principal": session.principal.name})
            self._drop(session)

    def _begin(self, principal: Principal, hello: Connect, now: int) -> Session:
        self._make_room(principal)
        session = Session(hello.client_id, principal, not hello.clean, self._limits.of(principal.role), now)
        self._add(session)
        return session

    def _add(self, session: Session) -> None:
        self._sessions[session.client_id] = session
        self._crowds.setdefault(session.principal.name, {})[session.client_id] = session

    def _make_room(self, principal: Principal) -> None:
        """End the principal's oldest session when it has as many as it may, an absent one rather than a present."""
        crowd = self._crowds.get(principal.name, {})
        if len(crowd) < self._limits.of(principal.role).sessions:
            return
        oldest = min(crowd.values(), key=lambda session: (session.line is not None, session.seen))
        log.warning("session ended", extra={"principal": principal.name, "reason": "too many sessions"})
        if oldest.line is not None:
            oldest.line.cut("too many sessions")
        if oldest.client_id in self._sessions:
            self._drop(oldest)

    def _drop(self, session: Session) -> None:
        for wanted in session.subscriptions:
            self._subscriptions.remove(wanted, session.client_id)
        del self._sessions[session.client_id]
        crowd = self._crowds[session.principal.name]
        del crowd[session.client_id]
        if not crowd:
            del self._crowds[session.principal.name]
        if session.kept:
            for copy in (*session.in_flight.values(), *session.waiting):
                self._store.write(Dequeue(session.client_id, copy.message.number))
            self._store.write(DropSession(session.client_id))

    def _subscribe(self, session: Session, wanted: str, qos: int) -> int:
        if session.subscriptions.get(wanted) == qos:
            return qos  # Granted before: nothing to write down.
        if not may(session.principal, Action.SUBSCRIBE, wanted):
            return REFUSED
        if wanted not in session.subscriptions and len(session.subscriptions) >= session.limits.subscriptions:
            return REFUSED
        session.subscriptions[wanted] = qos
        self._subscriptions.add(wanted, session.client_id, qos)
        if session.kept:
            self._store.write(Subscribe(session.client_id, wanted, qos))
        return qos

    def _deliver(self, session: Session, message: Message, qos: int, *, retain: bool = False) -> Message:
        """Give one session its copy and return the message, numbered once something durable refers to it."""
        if not qos:
            session.deliver_once(message, retain=retain)
            return message
        if not session.has_room:
            self._overflow(session)
            return message
        if session.kept:
            message = self._numbered(message)
            self._store.write(Enqueue(session.client_id, message.number, retain))
        session.enqueue(Copy(message, retain))
        return message

    def _overflow(self, session: Session) -> None:
        # The newest is dropped: what the two ends must not lose waits in their own outboxes (protocol section 4).
        if not session.dropped:
            log.warning("queue is full", extra={"principal": session.principal.name})
        session.dropped += 1

    def _numbered(self, message: Message) -> Message:
        if message.number:
            return message
        self._last_number += 1
        message = replace(message, number=self._last_number)
        self._store.write(KeepMessage(message))
        return message

    def _retain(self, message: Message) -> Message:
        """Keep the topic's new retained message; an empty payload clears it (section 3.3.1.3)."""
        if message.payload:
            message = self._numbered(message)
            self._retained[message.topic] = message
            self._retained_topics.add(message.topic)
            self._store.write(Retain(message.topic, message.number))
        elif self._retained.pop(message.topic, None) is not None:
            self._retained_topics.remove(message.topic)
            self._store.write(Unretain(message.topic))
        return message

    def _restore(self, kept: Kept) -> None:
        for topic, message in kept.retained.items():
            self._retained[topic] = message
            self._retained_topics.add(topic)
        for client_id, old in kept.sessions.items():
            principal = principal_of(client_id.rpartition("-")[0])
            if principal is None:
                continue
            session = Session(client_id, principal, True, self._limits.of(principal.role), old.seen)
            session.subscriptions.update(old.subscriptions)
            session.waiting.extend(old.queue)
            session.queued_bytes = sum(copy.message.size for copy in old.queue)
            self._add(session)
            for wanted, qos in old.subscriptions.items():
                self._subscriptions.add(wanted, client_id, qos)
