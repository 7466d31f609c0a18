"""A batch is one commit; hostile messages move a counter and nothing else; the good one after them works."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.line import Arrived, DialMaker, LineId, Token
from fleetward_schemas.commands import Result, ResultState, Step
from fleetward_schemas.enrol import Enrol, State
from fleetward_schemas.errors import Code
from fleetward_schemas.moment import from_ms
from fleetward_schemas.strict import b64_der, b64url_decode, read_object, show_der
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_server.operator import LocalOperator
from fleetward_server.state import Presence
from fleetward_server.store import ReportFilter, Store, StoreProblem
from fleetward_server.worker import Worker
from tests.device import TestDevice

LINE = LineId(1)


@dataclass
class FakeLink:
    """Keeps what was published; the worker needs no more of a link."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def publish(self, _: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        self.sent.append((topic, payload))
        return Token(len(self.sent))

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        raise AssertionError

    def poll(self, timeout_s: float, most: int = 1000) -> list[object]:  # type: ignore[override]
        raise AssertionError

    def ack(self, arrived: Arrived) -> None:
        raise AssertionError

    def close(self, line: LineId) -> None:
        raise AssertionError


@dataclass
class Bench:
    """A worker, its store, and two devices of its provider: an L1 and an L0."""

    worker: Worker
    link: FakeLink
    store: Store
    l1: TestDevice
    l0: TestDevice
    now: datetime
    monotonic: float = 0.0
    step_s: float = 1.0

    def hear(self, *messages: tuple[str, bytes]) -> list[tuple[str, dict[str, object]]]:
        """Let a batch arrive; return topics and payloads of what was sent."""
        self.now += timedelta(seconds=self.step_s)
        self.monotonic += 1
        arrived = [Arrived(LINE, topic, raw, 1, retained=False, mid=i) for i, (topic, raw) in enumerate(messages)]
        self.link.sent.clear()
        self.worker.send(self.worker.batch(arrived, self.now, self.monotonic), LINE, self.now)
        return [(topic.rsplit("/", 1)[1], payload(raw)) for topic, raw in self.link.sent]

    def enrolled(self, device: TestDevice) -> TestDevice:
        """Bring a device online."""
        ((_, challenge),) = self.hear(device.hello(self.now))
        nonce = challenge["body"]["serverNonce"]  # type: ignore[index]
        ((_, answer),) = self.hear(device.enrol(self.now, nonce))
        device.take(b64_der(answer["body"]["deviceChain"][0]), self.now)  # type: ignore[index]
        self.hear(device.online(self.now))
        return device

    def refusals(self, principal: str) -> dict[str, int]:
        return {str(row.code): row.count for row in self.store.refusals(principal)}


def payload(raw: bytes) -> dict[str, object]:
    return read_object(b64url_decode(raw.split(b".")[1]))


@pytest.mark.parametrize("level", ["l1", "l0"])
def test_a_device_that_nobody_touched_enrols_and_reports(bench: Bench, level: str) -> None:
    device = bench.enrolled(getattr(bench, level))

    sent = bench.hear(device.telemetry(bench.now))

    assert [(kind, message["body"]["ids"]) for kind, message in sent] == [("ack", [device.last_id])]  # type: ignore[index]
    with bench.store.unit() as rows:
        row = rows.device(device.id)
    assert row is not None
    assert (row.state, row.presence, row.enrolments) == (State.REGISTERED, Presence.ONLINE, 1)


def test_a_time_question_is_answered_before_and_after_enrolment(bench: Bench) -> None:
    before = bench.hear(bench.l1.ask_time(bench.now))
    after = bench.hear(bench.enrolled(bench.l1).ask_time(bench.now))

    assert [kind for kind, _ in before + after] == ["time", "time"]


def test_every_downlink_message_echoes_the_digital_id_byte_for_byte(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)

    ((_, ack),) = bench.hear(device.telemetry(bench.now))

    assert ack["digitalId"] == device.digital_id


def forged(bench: Bench, device: TestDevice) -> tuple[str, bytes]:
    topic, raw = device.telemetry(bench.now)
    return topic, raw[:-8] + (b"AAAAAAAA" if not raw.endswith(b"AAAAAAAA") else b"BBBBBBBB")


def stale(bench: Bench, device: TestDevice) -> tuple[str, bytes]:
    return device.telemetry(bench.now - timedelta(days=8))


def wrong_topic(bench: Bench, device: TestDevice) -> tuple[str, bytes]:
    topic, raw = device.telemetry(bench.now)
    return topic.replace("telemetry", "alert"), raw


def too_large(_: Bench, device: TestDevice) -> tuple[str, bytes]:
    return f"fw/v1/d/{device.id}/up/telemetry", b"A" * 50_000


def anothers(bench: Bench, device: TestDevice) -> tuple[str, bytes]:
    other = bench.l0
    mine = device.device_leaf
    device.device_leaf = other.device_leaf
    topic_raw = device.telemetry(bench.now)
    device.device_leaf = mine
    return topic_raw


def replayed(bench: Bench, device: TestDevice) -> tuple[str, bytes]:
    old = device.telemetry(bench.now)
    bench.hear(old)
    bench.hear(device.telemetry(bench.now))
    return old


HOSTILE = {
    Code.BAD_SIGNATURE: forged,
    Code.STALE: stale,
    Code.WRONG_TOPIC: wrong_topic,
    Code.TOO_LARGE: too_large,
    Code.UNKNOWN_SIGNER: anothers,
    Code.REPLAYED: replayed,
}


@pytest.mark.parametrize("code", list(HOSTILE), ids=str)
def test_a_hostile_message_is_counted_by_its_code_and_the_next_good_one_works(bench: Bench, code: Code) -> None:
    bench.enrolled(bench.l0)
    device = bench.enrolled(bench.l1)
    hostile = HOSTILE[code](bench, device)
    before = len(reports(bench, device))

    bench.hear(hostile)
    sent = bench.hear(device.telemetry(bench.now))

    assert bench.refusals(device.id) == {code: 1}
    assert len(reports(bench, device)) == before + 1
    assert [kind for kind, _ in sent] == ["ack"]


def reports(bench: Bench, device: TestDevice) -> list[object]:
    return list(bench.store.reports(ReportFilter(device.id)))


def test_a_number_that_was_taken_is_answered_again_and_stored_once(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    message = device.telemetry(bench.now)

    first, second = bench.hear(message), bench.hear(message)

    assert first[0][1]["body"] == second[0][1]["body"]
    assert len(reports(bench, device)) == 1
    assert bench.refusals(device.id) == {}


def test_a_report_under_a_number_that_another_used_is_refused_and_never_acknowledged(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    bench.hear(device.telemetry(bench.now))
    used = device.seq
    device.seq = used - 1

    ((_, ack),) = bench.hear(device.telemetry(from_ms(used)))

    assert ack["body"] == {"ids": [], "refused": [{"id": device.last_id, "code": "replayed"}]}
    assert len(reports(bench, device)) == 1


def test_a_report_sent_again_under_a_new_number_is_stored_once(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    bench.hear(device.telemetry(bench.now))
    again = device.last_id
    assert again is not None
    body = Telemetry(readings=[Reading(observedAt="2026-01-01T00:00:00.000Z", uncertaintyMs=1, metrics={"uptimeS": 2})])
    bench.hear(device.say("telemetry", body, bench.now, message_id=again))

    assert len(reports(bench, device)) == 1


def test_a_store_that_is_held_loses_nothing_and_the_same_batch_works_later(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    message = device.telemetry(bench.now)
    other = sqlite3.connect(bench.store.path, isolation_level=None)
    other.execute("begin immediate")

    with pytest.raises(StoreProblem, match=r"server\.db"):
        bench.hear(message)
    other.execute("rollback")
    other.close()

    assert [kind for kind, _ in bench.hear(message)] == ["ack"]
    assert len(reports(bench, device)) == 1


def test_six_questions_within_a_second_are_one_too_many(bench: Bench) -> None:
    questions = [bench.l1.ask_time(bench.now) for _ in range(6)]

    sent = bench.hear(*questions)

    assert len(sent) == 5
    assert bench.refusals(f"f-{bench.l1.id}") == {"too-often": 1}


def test_a_command_waits_for_its_device_and_is_answered(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    order = LocalOperator(bench.store.path.parent, "ann").send_command(device.id, "collect-info", {}, 600, "look")
    bench.link.sent.clear()
    bench.worker.send(bench.worker.chores(bench.now), LINE, bench.now)
    ((topic, raw),) = bench.link.sent
    bench.hear(device.say("result", Result(commandId=order.id, state=ResultState.SUCCEEDED), bench.now))

    assert topic.endswith("/down/command")
    assert payload(raw)["id"] == order.id
    with bench.store.unit() as rows:
        assert rows.command(order.id).step is Step.SUCCEEDED  # type: ignore[union-attr]


def test_names_nobody_has_share_one_counter(bench: Bench) -> None:
    for letter in "bcd":
        bench.hear((f"fw/v1/d/{letter * 26}/up/telemetry", b"x"))

    assert bench.refusals("unknown") == {"malformed": 3}


def test_a_device_that_was_not_heard_for_long_is_taken_offline(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)

    bench.worker.miss(bench.now + timedelta(seconds=60))
    before = bench.store.device(device.id)
    bench.worker.miss(bench.now + timedelta(seconds=600))
    after = bench.store.device(device.id)

    assert [row and row.presence for row in (before, after)] == [Presence.ONLINE, Presence.OFFLINE]


def test_a_request_spoiled_in_any_byte_never_stops_the_worker(bench: Bench) -> None:
    device = bench.l1
    ((_, challenge),) = bench.hear(device.hello(bench.now))
    nonce = challenge["body"]["serverNonce"]  # type: ignore[index]
    good = profiles.request("any", device.device_key).public_bytes(Encoding.DER)
    other = profiles.request("any", device.transport_key).public_bytes(Encoding.DER)
    for place in range(0, len(good), 3):
        spoiled = good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]
        body = Enrol(serverNonce=str(nonce), deviceCsr=show_der(spoiled), transportCsr=show_der(other))
        bench.hear(device.say("enrol", body, bench.now))

    assert "registered" in str(bench.hear(device.enrol(bench.now, str(nonce))))
