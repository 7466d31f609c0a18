"""Bundles at the server: what the line would carry to and from a device, in files that somebody carries.

The same worker seals and opens it, so a courier is trusted no more than a broker. What a device brought is acknowledged
by its next bundle: until then its receipts lie in ``bundles/``, made anew whenever the same answers come again.
Source: protocol section 3; schemas/README.md "Bundles".
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetward_broker.durable import write_durably
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Arrived, LineId, Token
from fleetward_schemas.bundle import Carried, read_bundle, write_bundle
from fleetward_schemas.clock import TimeAnswer
from fleetward_schemas.commands import Event, Step, Verb, may_advance
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.messages import KINDS
from fleetward_schemas.receipts import Ack
from fleetward_schemas.topics import DeviceId, Direction, down, read_topic
from fleetward_server import commands, encryption
from fleetward_server.authority import Authority
from fleetward_server.clock import sureness
from fleetward_server.config import ConfigProblem
from fleetward_server.generations import AuthorityProblem, own_anchors
from fleetward_server.mass import MassOperator
from fleetward_server.outgoing import Outgoing
from fleetward_server.policy import policy_of
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.settings import LimitsTable
from fleetward_server.state import Command, Device
from fleetward_server.store import Store, Unit
from fleetward_server.turn import Reply
from fleetward_server.worker import Worker

FOLDER = "bundles"
BATCH = 500
MOST_ORDERS = 100
_CARRIED_UP = frozenset({"time"} | {kind.name for kind in KINDS.values() if kind.report})
BY_HAND = LimitsTable(reports_per_s=10**9, reports_burst=10**9, reports_per_day=10**9, mib_per_day=10**9)
"""Somebody carried it here: it keeps nobody else waiting."""
_LINE = LineId(0)
_TAKES_BUNDLES = {State.REGISTERED, State.QUARANTINED, State.RETIRED}
_UNDER_WAY = (Step.SENT, Step.ACCEPTED)


@dataclass(slots=True)
class Pouch:
    """A publisher that keeps what it is given."""

    messages: list[Carried] = field(default_factory=list)

    def publish(self, _: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        """Put one message in."""
        del qos, retain
        self.messages.append(Carried(topic, payload))
        return Token(len(self.messages))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a device's next bundle answers. question: the carried ``time``, as it was answered when it came."""

    ids: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    question: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What went into a bundle. left: orders that only the line can carry out, ``device command verb``."""

    devices: int
    orders: int
    receipts: int
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of answers. refused: ``topic: code: detail``."""

    devices: tuple[DeviceId, ...]
    acknowledged: int
    refused: tuple[str, ...]


class BundleOperator(MassOperator):
    """An operator on this host who also makes bundles and takes what comes back."""

    def create_bundle(self, devices: Sequence[DeviceId], reason: str) -> tuple[bytes, Packed]:
        """Return a bundle for these devices: a time floor, receipts, open orders, encryption certificates.

        Raises:
            OperatorProblem: ``not-found``; ``conflict``: a device that takes none; ``failed``: our own clock or key.
        """
        now, pouch, out = self._now(), Pouch(), Outgoing()
        with self.opened() as store:
            worker = self._worker(store, pouch, now)
            worker.policy = replace(worker.policy, encryption=self._encryption(store, now))
            if not worker.policy.radius_ms:
                raise OperatorProblem(Kind.FAILED, "[time] the error of our own clock is not known: no bundle now")
            left: list[str] = []
            receipts = 0
            with store.unit() as unit:
                for device_id in devices:
                    device = _takes_bundles(unit, device_id)
                    receipts += self._receipts(device, out, worker.policy.radius_ms)
                    if device.state is State.REGISTERED:
                        out.replies += encryption.told(device.id, device.digital_id or "", worker.policy)
                    left += self._orders(unit, device_id, store, out, now)
                    unit.apply([self._entry("bundle-created", device_id, reason, "")])
            orders = sum(reply.topic.endswith("/command") for reply in out.replies)
            worker.beacon(_LINE, now)
            worker.send(out, _LINE, now)
        return write_bundle(pouch.messages), Packed(len(devices), orders, receipts, tuple(left))

    def _encryption(self, store: Store, now: datetime) -> tuple[Encryption, ...]:
        """Return the encryption certificates that devices are told of."""
        try:
            return encryption.bodies(self.config, store, now)
        except ConfigProblem as problem:
            raise OperatorProblem(Kind.INVALID, str(problem)) from None

    def take_bundle(self, whole: bytes) -> Taken:
        """Take what a device, or several, gave somebody to carry.

        Raises:
            OperatorProblem: ``unverified``: no answers of devices, or a damaged file; nothing was taken.
        """
        messages = _answers(whole)
        now, outs = self._now(), []
        with self.opened() as store:
            worker = self._worker(store, Pouch(), now)
            worker.policy = replace(worker.policy, by_hand=True, limits=BY_HAND)
            for start in range(0, len(messages), BATCH):
                some = messages[start : start + BATCH]
                arrived = [Arrived(_LINE, one.topic, one.raw, 1, retained=False, mid=0) for one in some]
                outs.append(worker.batch(arrived, now, float(start)))
            receipts = _gathered(outs)
            for device_id, receipt in receipts.items():
                self._keep(device_id, receipt)
            with store.unit() as unit:
                unit.apply(self._entry("bundle-taken", one, "", f"{len(r.ids)} reports") for one, r in receipts.items())
        refused = tuple(f"{topic}: {refusal}" for out in outs for topic, refusal in out.refusals)
        return Taken(tuple(receipts), sum(len(one.ids) for one in receipts.values()), refused)

    def _worker(self, store: Store, pouch: Pouch, now: datetime) -> Worker:
        """Return the line's own worker with a key of its own start, good for 7 days: as old a bundle may get."""
        config = self.config
        try:
            policy = policy_of(config, sureness(config.time))
            return Worker(store, pouch, Authority(config), policy, own_anchors(config), now)
        except (AuthorityProblem, KeyUnavailable) as problem:
            raise OperatorProblem(Kind.FAILED, str(problem)) from None

    def _receipts(self, device: Device, out: Outgoing, radius_ms: int) -> int:
        """Add what the device is told of what it brought; at the least an empty ``ack``, which names it."""
        receipt, echo = self._kept(device.id), device.digital_id or ""
        if receipt.question is not None:
            known = TimeAnswer.read(receipt.question["answer"])
            answer = known.changed(radiusMs=max(radius_ms, known.radiusMs))
            out.replies.append(Reply(down(device.id, "time"), answer, echo, in_reply_to=receipt.question["id"]))
        if receipt.ids or receipt.refused:
            out.ack(device.id, echo, receipt.ids, receipt.refused)
        else:
            out.replies.append(Reply(down(device.id, "ack"), Ack(ids=[]), echo))
        return len(receipt.ids) + len(receipt.refused)

    def _orders(self, unit: Unit, device_id: DeviceId, store: Store, out: Outgoing, now: datetime) -> list[str]:
        """Add the open orders, as sent; return those that a device without a line cannot carry out."""
        device = _takes_bundles(unit, device_id)
        found = store.commands(device_id, open_only=True, limit=MOST_ORDERS)
        if device.state is not State.REGISTERED:
            return []
        rotating = any(one.verb == Verb.ROTATE_KEY and one.step in _UNDER_WAY for one in found)
        left = []
        for old in found:
            command = unit.command(old.id)
            if command is None or command.expires_at <= now or not may_advance(command.step, Event.SEND):
                continue
            if command.verb == Verb.ROTATE_KEY or (command.verb == Verb.RETIRE and rotating):
                left.append(f"{device_id} {command.id} {command.verb}")
                continue
            _send(unit, command, device, out, now)
        return left

    def _keep(self, device_id: DeviceId, receipt: Receipt) -> None:
        path = self._path(device_id)
        path.parent.mkdir(exist_ok=True)
        kept = {"ids": receipt.ids, "refused": receipt.refused, "question": receipt.question}
        write_durably(path, json.dumps(kept).encode())

    def _kept(self, device_id: DeviceId) -> Receipt:
        path = self._path(device_id)
        if not path.exists():
            return Receipt()
        found = json.loads(path.read_bytes())
        return Receipt(tuple(found["ids"]), tuple((one, code) for one, code in found["refused"]), found["question"])

    def _path(self, device_id: DeviceId) -> Path:
        return self.folder / FOLDER / f"{device_id}.json"


def _takes_bundles(unit: Unit, device_id: DeviceId) -> Device:
    device = unit.device(device_id)
    if device is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"no device {device_id!r}")
    if device.state not in _TAKES_BUNDLES or device.digital_id is None:
        why = "it was never online" if device.digital_id is None else "it takes none"
        raise OperatorProblem(Kind.CONFLICT, f"{device_id} is {device.state}: no bundle for it: {why}")
    return device


def _send(unit: Unit, command: Command, device: Device, out: Outgoing, now: datetime) -> None:
    turn = commands.send(command, device, now)
    unit.apply(turn.changes)
    out.replies.extend(turn.replies)


def _answers(whole: bytes) -> tuple[Carried, ...]:
    """Read a file that holds nothing but reports and time questions.

    Raises:
        OperatorProblem: ``unverified``, naming the line.
    """
    try:
        messages = read_bundle(whole)
        for number, one in enumerate(messages, start=2):
            address = read_topic(one.topic)
            if address.direction is not Direction.UP or address.kind not in _CARRIED_UP:
                raise Refused(Code.NOT_ALLOWED, f"line {number}: {one.topic} is not carried to the server")
    except Refused as refusal:
        raise OperatorProblem(Kind.UNVERIFIED, f"the bundle is refused: {refusal}") from None
    return messages


def _gathered(outs: Iterable[Outgoing]) -> dict[DeviceId, Receipt]:
    """Return what each device is to be told, over all batches."""
    found: dict[DeviceId, Receipt] = {}
    for out in outs:
        for device_id, said in out.receipts.items():
            before = found.get(device_id, Receipt())
            refused = (*before.refused, *said.refused)
            found[device_id] = replace(before, ids=(*before.ids, *said.ids), refused=refused)
        for reply in out.replies:
            principal = read_topic(reply.topic).principal
            if isinstance(reply.body, TimeAnswer) and principal is not None and principal.device_id is not None:
                question = {"id": reply.in_reply_to, "answer": reply.body.document()}
                before = found.get(principal.device_id, Receipt())
                found[principal.device_id] = replace(before, question=question)
    return found
