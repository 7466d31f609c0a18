"""One server worker's turn: a batch of arrivals becomes one commit, then acknowledgements, then replies.

A crash anywhere is a redelivery: nothing is acknowledged before its effects are committed, nothing is sent before
that either. The only state kept in memory can be made anew: sequence numbers, caches, our signing key.
Source: deploy/decisions/0001 "How data flows"; protocol section 3.
"""

import logging
import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Arrived, LineId, Publisher, Token
from fleetward_schemas.certificates import Anchors
from fleetward_schemas.clock import Beacon
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.envelope import Draft, Opened, open_sealed, seal
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import to_ms
from fleetward_schemas.replay import next_seq
from fleetward_schemas.strict import b64url
from fleetward_schemas.topics import down, fleet, read_topic, release
from fleetward_schemas.upgrade import ReleaseFile
from fleetward_server.arrivals import principal_named, touched
from fleetward_server.authority import Authority, AuthorityProblem, OwnSeal
from fleetward_server.caches import Caches, Lru, strangers
from fleetward_server.changes import CountRefusal
from fleetward_server.chores import Chores
from fleetward_server.clock import stamp
from fleetward_server.desk import HANDLERS, ISSUED
from fleetward_server.intake import Admitted, Anchorage, Duplicate, Uplink, anchored, know, take
from fleetward_server.limits import Limits
from fleetward_server.outgoing import Outgoing
from fleetward_server.settings import RotationTable
from fleetward_server.store import Store, Unit
from fleetward_server.turn import Issued, IssuePair, Known, Policy, Reply, Said, Turn

log = logging.getLogger("fleetward.server")

NONCE_BYTES = 32
TOLD = frozenset({kind.name for kind in KINDS.values() if kind.report} | {"status", "csr"})
"""Kinds whose refusal is told, by its code."""
RENEW_AGAIN = timedelta(seconds=30)


class Worker:
    """Everything a turn needs, and the little that outlives one."""

    def __init__(
        self, store: Store, link: Publisher, authority: Authority, policy: Policy, own: Anchors, now: datetime
    ) -> None:
        """Make this start's signing key. own: the provider's root."""
        self._store = store
        self._link = link
        self._authority = authority
        self._own = own
        self._caches = Caches()
        self._chores = Chores(store)
        self._seqs: Lru[int] = Lru()
        self._limits = Limits()
        self._last_id: str | None = None
        self.policy = policy
        self.seal: OwnSeal = authority.own_seal(now)
        self._renew_at = now
        self._anchorage: Anchorage | None = None

    def renew(self, now: datetime) -> None:
        """Make the next signing key when this one's end comes near; devices take both.

        While the authority's key is away, the one in memory goes on: there are two days to try.
        """
        # After a step back of our clock nothing waits for where it was.
        if not self.seal.due(now) or self._renew_at - RENEW_AGAIN <= now < self._renew_at:
            return
        try:
            self.seal = self._authority.own_seal(now)
            log.info("signing key renewed", extra={"thumbprint": self.seal.thumbprint})
        except (KeyUnavailable, AuthorityProblem) as problem:
            self._renew_at = now + RENEW_AGAIN
            log.error("signing key not renewed", extra={"detail": str(problem), "until": str(self.seal.not_after)})  # noqa: TRY400

    def batch(self, arrived: list[Arrived], now: datetime, monotonic: float) -> Outgoing:
        """Take a batch in one transaction; on any problem of the store nothing of it has happened.

        Raises:
            StoreProblem: nothing was committed; nothing may be acknowledged.
        """
        out = Outgoing()
        with self._store.unit() as rows:
            devices, windows = touched(arrived)
            rows.prefetch(devices, windows, strangers(windows, rows.epochs(), self._caches))
            for one in arrived:
                self._one(one, rows, out, now, monotonic)
        return out

    def _one(self, one: Arrived, rows: Unit, out: Outgoing, now: datetime, monotonic: float) -> None:
        if not one.payload:
            return  # A cleared retained topic.
        trust = Uplink(rows, self._anchors(rows), self._caches, now)
        try:
            opened = open_sealed(one.payload, one.topic, trust, now)
        except Refused as refusal:
            self._refused(one.topic, refusal, rows, now)
            out.refusals.append((one.topic, refusal))
            return
        if trust.speaker is None:
            raise LocalMistake("a message was opened without a speaker")
        try:
            if not self.policy.by_hand:
                self._limits.check(opened, len(one.payload), self.policy.limits, monotonic)
            taken = take(opened, trust.speaker, rows, self._caches, now)
            if isinstance(taken, Duplicate):
                self._duplicate(taken, rows, out)
            else:
                self._handle(taken, rows, out, now)
        except Refused as refusal:
            self._refused(one.topic, refusal, rows, now)
            out.refusals.append((one.topic, refusal))
            self._tell(opened, refusal, rows, out)

    def _handle(self, admitted: Admitted, rows: Unit, out: Outgoing, now: datetime) -> None:
        said = admitted.said
        # Only a challenge has a nonce of its own; the others come a thousand times as often.
        random = secrets.token_bytes(NONCE_BYTES) if said.opened.kind.name == "hello" else b""
        known = know(said, rows, random)
        turn = HANDLERS[said.opened.kind.name](said, known, self.policy)
        turns = [turn]
        if turn.effects:
            turns.extend(self._perform(effect, said, known, now) for effect in turn.effects)
        acks: list[str] = []
        refused: list[tuple[str, Code]] = []
        for each in turns:
            rows.apply(each.changes)
            out.replies += each.replies
            acks += each.acks
            refused += each.refused
        if admitted.window is not None:
            rows.apply((admitted.window,))
        if refused:
            log.warning("report refused", extra={"device": said.device_id, "codes": [code for _, code in refused]})
            out.refusals += [(said.opened.members.topic, Refused(code)) for _, code in refused]
        if acks or refused:
            out.ack(said.device_id, self._current(rows, said), acks, refused)

    def _perform(self, effect: IssuePair, said: Said, known: Known, now: datetime) -> Turn:
        certified, busy = ISSUED[said.opened.kind.name]
        try:
            issued = Issued(effect, self._authority.issue_pair(effect, now))
        except (KeyUnavailable, AuthorityProblem) as problem:
            log.warning("not certified", extra={"device": said.device_id, "detail": str(problem)})
            return busy(said, known, self.policy)
        return certified(said, issued, known, self.policy)

    def _current(self, rows: Unit, said: Said) -> str:
        device = rows.device(said.device_id)
        return device.digital_id if device is not None and device.digital_id is not None else said.digital_id

    def _duplicate(self, duplicate: Duplicate, rows: Unit, out: Outgoing) -> None:
        """Its effects were committed with its number: say so again. A number used for another message says nothing.

        Raises:
            Refused: ``replayed``: a report that is not stored under a number that is used.
        """
        opened, principal = duplicate.opened, duplicate.opened.address.principal
        if principal is None or principal.device_id is None:
            return
        if opened.kind.report and not rows.has_report(principal.device_id, opened.id):
            raise Refused(Code.REPLAYED, f"number {opened.members.seq} was another report's")
        device = rows.device(principal.device_id)
        if device is not None and device.digital_id is not None:
            out.ack(principal.device_id, device.digital_id, (opened.id,), ())

    def _refused(self, topic: str, refusal: Refused, rows: Unit, now: datetime) -> None:
        principal = principal_named(topic, rows)
        rows.apply((CountRefusal(principal, refusal.code, now),))
        log.info("refused", extra={"code": refusal.code, "principal": principal, "detail": refusal.detail})

    def _tell(self, opened: Opened, refusal: Refused, rows: Unit, out: Outgoing) -> None:
        """Answer a refused report by its code alone; the signature held, or we would not be here."""
        principal = opened.address.principal
        if principal is None or principal.device_id is None or opened.kind.name not in TOLD:
            return
        device = rows.device(principal.device_id)
        if device is not None and device.digital_id is not None:
            out.ack(principal.device_id, device.digital_id, (), ((opened.id, refusal.code),))

    def _anchors(self, rows: Unit) -> Anchorage:
        epoch = rows.epochs()[0]
        if self._anchorage is None or self._anchorage.epoch != epoch:
            self._anchorage = anchored(self._own, self._store.ftm_roots(), epoch)
        return self._anchorage

    def chores(self, now: datetime, *, assigns: bool = True) -> Outgoing:
        """Do what is due between messages; see ``Chores.send``."""
        out = self._chores.send(self.policy, now, assigns=assigns)
        out.replies.extend(self._chores.handed(self.policy))
        return out

    def hand_out(self, found: tuple[Encryption, ...]) -> None:
        """Tell every device that is there, and from now on each that comes, what biometrics are encrypted for."""
        if found != self.policy.encryption:
            self.policy = replace(self.policy, encryption=found)
            self._chores.hand_out()

    def miss(self, now: datetime) -> None:
        """Take devices offline that were not heard for long."""
        self._chores.miss(self.policy, now)

    def plan_rotations(self, plan: RotationTable, now: datetime) -> int:
        """Order new keys where the plan says so; return how many."""
        return self._chores.plan_rotations(plan, now)

    def send(self, out: Outgoing, line: LineId, now: datetime) -> None:
        """Seal and publish; what is lost here is asked for again."""
        for reply in out.replies:
            self._publish(line, stamp(reply, now), now)
        for device_id, receipts in out.receipts.items():
            for part in receipts.parts():
                self._publish(line, Reply(down(device_id, "ack"), part, receipts.digital_id), now)

    def beacon(self, line: LineId, now: datetime) -> None:
        """Tell the fleet that it is at least now, less what our own clock may be ahead by."""
        at_least = now - timedelta(milliseconds=self.policy.radius_ms)
        self._publish(line, Reply(fleet("beacon"), Beacon(), self.seal.identity), at_least)

    def tell_release(self, line: LineId, file: str, raw: bytes | None, now: datetime) -> Token | None:
        """Have the broker hold a file of the release repository; None clears it."""
        if raw is None:
            return self._link.publish(line, release(file), b"", retain=True)
        return self._publish(line, Reply(release(file), ReleaseFile(metadata=b64url(raw)), self.seal.identity), now)

    def _publish(self, line: LineId, reply: Reply, now: datetime) -> Token | None:
        address = read_topic(reply.topic)
        kind = KINDS[(address.direction, address.kind)]
        key = (self.seal.thumbprint, reply.topic)
        seq = next_seq(to_ms(now), self._seqs.get(key) or 0)
        self._seqs.put(key, seq)
        sealed = seal(self._draft(reply, seq, now), self.seal.seal, now)
        return self._link.publish(line, reply.topic, sealed, qos=kind.qos, retain=kind.retained)

    def _draft(self, reply: Reply, seq: int, now: datetime) -> Draft:
        if reply.message_id is None:
            self._last_id = next_id(now, self._last_id, secrets.token_bytes(RANDOM_BYTES))
        message_id = reply.message_id or self._last_id or ""
        return Draft(reply.topic, message_id, seq, reply.digital_id, reply.body, reply.in_reply_to, reply.expires)
