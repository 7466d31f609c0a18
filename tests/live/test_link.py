"""The link against a broker on loopback, over mutual TLS: what it promises, and what it takes from no broker."""

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleetward_broker.line import Arrived, Connected, Delivered, Dial, Event, LineId, Loss, Lost, Readable, Will
from fleetward_broker.link import SelectorLink
from tests.live.stubbroker import Manners, Provider, StubBroker, handshakes_only, publish_packet

pytestmark = pytest.mark.live
DEADLINE_S = 120.0
CHATTY = "down/chatty"


class Owner:
    """Polls a link and remembers what it was told."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, **options: float) -> None:
        self.link = SelectorLink(monotonic, **options)
        self.told: list[Event] = []

    def until(self, is_enough: Callable[[], bool], most: int = 1000) -> None:
        end = time.monotonic() + DEADLINE_S
        while not is_enough():
            if time.monotonic() > end:
                pytest.fail(f"not within {DEADLINE_S} s; told: {self.told[-5:]}")
            self.told += self.link.poll(0.05, most)

    def of(self, kind: type, line: LineId | None = None) -> list:
        return [e for e in self.told if isinstance(e, kind) and line in {None, getattr(e, "line", None)}]

    def wait_for(self, kind: type, line: LineId | None = None, count: int = 1) -> list:
        self.until(lambda: len(self.of(kind, line)) >= count)
        return self.of(kind, line)

    def connect(self, dial: Dial) -> LineId:
        line = self.link.open(lambda: dial)
        self.wait_for(Connected, line)
        return line


class Watch:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.link.shutdown()


@pytest.fixture
def broker(provider: Provider) -> Iterator[StubBroker]:
    with StubBroker(provider.broker_context()) as broker:
        yield broker


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port where TCP connects and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield listener.getsockname()[1]


def dial_of(provider: Provider, port: int, client: str = "c1", **changes: object) -> Dial:
    context = changes.pop("context", None) or provider.client_context()
    dial = Dial("localhost", port, "localhost", client, context, clean=False, subscriptions=(("down/#", 1),))
    return replace(dial, **changes)


def lost_with(owner: Owner, dial: Dial) -> Lost:
    line = owner.link.open(lambda: dial)
    return owner.wait_for(Lost, line)[0]


# Dialling


def test_two_hundred_lines_connect_through_sixty_four_dial_slots(provider, broker, owner):
    context, most = provider.client_context(), []

    def maker(number: int) -> Dial:
        most.append(len(owner.link._knocks))
        return dial_of(provider, broker.port, f"c{number}", context=context)

    for number in range(200):
        owner.link.open(lambda n=number: maker(n))
    owner.wait_for(Connected, count=200)
    assert len({e.line for e in owner.of(Connected)}) == 200
    assert max(most) == 63


def test_a_stalled_handshake_delays_no_other_line(provider, broker, owner):
    with deaf_port() as port:
        stalled = [owner.link.open(lambda: dial_of(provider, port)) for _ in range(32)]
        owner.connect(dial_of(provider, broker.port))
    assert not owner.of(Lost)
    assert len(stalled) == 32


def test_full_dial_slots_free_themselves_at_the_time_limit(provider, broker):
    watch = Watch()
    owner = Owner(watch, dials_at_once=2, connect_timeout_s=0.5)
    with deaf_port() as port:
        for _ in range(2):
            owner.link.open(lambda: dial_of(provider, port))
        line = owner.link.open(lambda: dial_of(provider, broker.port))
        assert owner.link.poll(0) == []
        assert not broker.heard
        watch.now += 0.5
        owner.wait_for(Lost, count=2)
        owner.wait_for(Connected, line)
    assert [e.loss for e in owner.of(Lost)] == [Loss.UNREACHABLE] * 2
    owner.link.shutdown()


def test_a_line_opens_no_sooner_than_asked(provider, broker, owner):
    start = time.monotonic()
    line = owner.link.open(lambda: dial_of(provider, broker.port), after_s=0.3)
    owner.wait_for(Connected, line)
    assert time.monotonic() - start >= 0.3


def test_a_port_where_nobody_listens_is_unreachable(provider, owner):
    with deaf_port() as port:
        pass
    assert lost_with(owner, dial_of(provider, port)).loss is Loss.UNREACHABLE


def test_a_name_nobody_knows_is_unreachable(provider, owner):
    lost = lost_with(owner, dial_of(provider, 8883, host="no-such-host.invalid"))
    assert lost.loss is Loss.UNREACHABLE


def test_a_will_is_made_anew_for_each_dial(provider, broker, owner):
    wills = iter([Will("up/status", b"first"), Will("up/status", b"second")])

    def maker() -> Dial:
        return dial_of(provider, broker.port, will=next(wills))

    line = owner.link.open(maker)
    owner.wait_for(Connected, line)
    broker.cut("c1")
    owner.wait_for(Lost, line)
    owner.wait_for(Connected, owner.link.open(maker))
    assert [will for _, will in broker.values("connect")] == [b"first", b"second"]


# Who is believed


def test_a_broker_of_our_provider_is_believed(provider, broker, owner):
    owner.connect(dial_of(provider, broker.port))
    assert broker.values("subscribe") == [("down/#",)]


def test_a_broker_of_a_stranger_is_refused(provider, stranger, owner):
    with StubBroker(stranger.broker_context()) as rogue:
        assert lost_with(owner, dial_of(provider, rogue.port)).loss is Loss.TLS_REFUSED
        assert not rogue.heard


def test_a_broker_with_another_name_is_refused(provider, owner):
    with StubBroker(provider.broker_context("elsewhere.example")) as broker:
        assert lost_with(owner, dial_of(provider, broker.port)).loss is Loss.TLS_REFUSED
        assert not broker.heard


def test_a_broker_that_refuses_our_certificate_is_told_apart_from_a_broken_line(provider, stranger, owner):
    ours = provider.client_context()
    ours.load_cert_chain(*stranger.client_files("d1"))
    with handshakes_only(provider.broker_context()) as port:
        lost = lost_with(owner, dial_of(provider, port, context=ours))
    assert lost.loss is Loss.TLS_REFUSED
    assert "UNKNOWN_CA" in lost.detail


def test_a_revoked_certificate_is_refused_and_its_neighbour_taken(provider, owner):
    revoked, neighbour = provider.client_context("revoked"), provider.client_context("neighbour")
    serial = x509.load_pem_x509_certificate((provider.folder / "revoked.pem").read_bytes()).serial_number
    with handshakes_only(provider.broker_context(revoked=(serial,))) as port:
        assert lost_with(owner, dial_of(provider, port, context=revoked)).detail.endswith("CERTIFICATE_REVOKED")
        assert lost_with(owner, dial_of(provider, port, context=neighbour)).loss is Loss.DROPPED


def test_an_expired_broker_certificate_is_refused_as_not_valid_now(provider, owner):
    with StubBroker(provider.broker_context(end=provider.now - timedelta(days=1))) as broker:
        assert lost_with(owner, dial_of(provider, broker.port)).loss is Loss.CERTIFICATE_NOT_VALID_NOW


def test_an_expired_broker_certificate_is_taken_while_no_time_is_known(provider, owner):
    with StubBroker(provider.broker_context(end=provider.now - timedelta(days=1))) as broker:
        owner.connect(dial_of(provider, broker.port, context=provider.client_context(check_time=False)))


def test_without_a_time_check_a_strangers_broker_is_still_refused(provider, stranger, owner):
    with StubBroker(stranger.broker_context()) as rogue:
        timeless = provider.client_context(check_time=False)
        assert lost_with(owner, dial_of(provider, rogue.port, context=timeless)).loss is Loss.TLS_REFUSED


# What a broker may do


def test_a_refused_connect_is_told_with_its_reason(provider, broker, owner):
    broker.manners = Manners(connack=b"\x20\x02\x00\x05")
    lost = lost_with(owner, dial_of(provider, broker.port))
    assert (lost.loss, lost.detail) == (Loss.CONNECT_REFUSED, "Not authorized")


def test_a_broker_of_another_protocol_version_refuses_the_connect(provider, broker, owner):
    broker.manners = Manners(connack=b"\x20\x02\x00\x01")
    assert lost_with(owner, dial_of(provider, broker.port)).loss is Loss.CONNECT_REFUSED
    assert len(broker.values("connect")) == 1


def test_one_refused_filter_ends_the_line(provider, broker, owner):
    broker.manners = Manners(grant=0x80)
    lost = lost_with(owner, dial_of(provider, broker.port, subscriptions=(("down/#", 1), ("all/#", 1))))
    assert (lost.loss, lost.detail) == (Loss.SUBSCRIBE_REFUSED, "all/#")
    assert not owner.of(Connected)


def test_a_suback_that_answers_too_little_grants_nothing(provider, broker, owner):
    broker.manners = Manners(grant=None)
    line = owner.link.open(lambda: dial_of(provider, broker.port))
    owner.until(lambda: bool(broker.values("subscribe")))
    broker.send("c1", b"\x90\x02\x00\x01")
    assert owner.wait_for(Lost, line)[0].loss is Loss.SUBSCRIBE_REFUSED


def test_all_filters_go_in_one_subscribe(provider, broker, owner):
    owner.connect(dial_of(provider, broker.port, subscriptions=(("down/#", 1), ("fleet/#", 1), ("beacon", 0))))
    assert broker.values("subscribe") == [("down/#", "fleet/#", "beacon")]


def test_without_subscriptions_a_line_is_connected_at_connack(provider, broker, owner):
    owner.connect(dial_of(provider, broker.port, subscriptions=()))
    assert not broker.values("subscribe")


@pytest.mark.parametrize("silence", [Manners(connack=None), Manners(grant=None)], ids=["connack", "suback"])
def test_a_broker_that_never_answers_is_unreachable(provider, broker, silence):
    broker.manners = silence
    owner = Owner(connect_timeout_s=0.5)
    lost = lost_with(owner, dial_of(provider, broker.port))
    assert (lost.loss, lost.detail) == (Loss.UNREACHABLE, "no answer within 0.5 s")
    owner.link.shutdown()


@pytest.mark.parametrize("packet", ["connect", "subscribe"])
def test_a_broker_that_hangs_up_drops_the_line_once(provider, broker, owner, packet):
    broker.manners = Manners(closes_on=packet)
    assert lost_with(owner, dial_of(provider, broker.port)).loss is Loss.DROPPED
    owner.told += owner.link.poll(0.05)
    assert len(owner.of(Lost)) == 1


def test_a_line_cut_in_the_middle_of_a_packet_is_dropped_without_half_a_message(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    broker.send("c1", publish_packet("down/x", b"x" * 5000, 1)[:3000])
    broker.cut("c1")
    assert owner.wait_for(Lost, line)[0].loss is Loss.DROPPED
    assert not owner.of(Arrived)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x30\xff\xff\xff\x7f",
        b"\x30\xff\xff\xff\xff\x7f",
        b"\x34\x08\x00\x03a/b\x00\x01x",
        b"\x30\x04\x00\x02\xff\xfe",
        b"\xf0\x00",
        b"\x40\x01\x00",
        b"\x62\x00",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\xc0\x00",
        b"\x20\x02\x00\x00",
    ],
    ids=["huge", "endless", "qos-2", "not-utf-8", "unknown", "short", "pubrel", "qos-3", "ping", "second-connack"],
)
def test_a_packet_nobody_may_send_ends_the_line_and_no_other(provider, broker, owner, raw):
    other = owner.connect(dial_of(provider, broker.port, "other"))
    line = owner.connect(dial_of(provider, broker.port))
    broker.send("c1", raw)
    assert owner.wait_for(Lost, line)[0].loss is Loss.DROPPED
    assert owner.link.publish(other, "up/x", b"x") is not None


def test_a_peer_that_no_longer_answers_pings_is_given_up(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port, keep_alive_s=1))
    owner.until(lambda: len(broker.values("ping")) >= 2)
    broker.manners = Manners(connack=None)
    broker.mute("c1")
    assert owner.wait_for(Lost, line)[0].loss is Loss.DROPPED


# Messages


def test_a_message_arrives_whole_and_is_acknowledged_only_by_its_owner(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    broker.deliver("c1", 7, "down/x", b"payload")
    arrived = owner.wait_for(Arrived)[0]
    assert arrived == Arrived(line, "down/x", b"payload", 1, False, 7)
    owner.told += owner.link.poll(0.2)
    assert not broker.values("puback")
    owner.link.ack(arrived)
    owner.until(lambda: broker.values("puback") == [7])


def test_what_was_not_acknowledged_comes_again_on_the_next_line(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    for mid in (1, 2):
        broker.deliver("c1", mid, "down/x", b"%d" % mid)
    first, _ = owner.wait_for(Arrived, count=2)
    owner.link.ack(first)
    owner.until(lambda: broker.values("puback") == [1])
    broker.cut("c1")
    owner.wait_for(Lost, line)
    again = owner.connect(dial_of(provider, broker.port))
    assert [e.payload for e in owner.wait_for(Arrived, again)] == [b"2"]


def test_acknowledgements_leave_in_the_order_given(provider, broker, owner):
    owner.connect(dial_of(provider, broker.port))
    broker.send("c1", b"".join(publish_packet("down/x", b"", mid) for mid in range(1, 501)))
    for arrived in owner.wait_for(Arrived, count=500):
        owner.link.ack(arrived)
    owner.until(lambda: len(broker.values("puback")) == 500)
    assert broker.values("puback") == list(range(1, 501))


def test_an_acknowledgement_on_a_lost_line_is_nothing(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    broker.deliver("c1", 7, "down/x", b"payload")
    arrived = owner.wait_for(Arrived)[0]
    broker.cut("c1")
    owner.wait_for(Lost, line)
    owner.link.ack(arrived)
    owner.link.poll(0)
    assert not broker.values("puback")


def test_a_publish_is_told_as_delivered_once_the_broker_took_it(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    tokens = [owner.link.publish(line, "up/x", b"%d" % n) for n in range(100)]
    assert [e.token for e in owner.wait_for(Delivered, line, 100)] == tokens == sorted(set(tokens))
    assert broker.values("publish") == [("up/x", b"%d" % n) for n in range(100)]


def test_a_publish_nobody_acknowledged_is_not_delivered(provider, broker, owner):
    broker.manners = Manners(is_acknowledging=False)
    line = owner.connect(dial_of(provider, broker.port))
    assert owner.link.publish(line, "up/x", b"x") is not None
    owner.until(lambda: len(broker.values("publish")) == 1)
    owner.told += owner.link.poll(0.1)
    assert not owner.of(Delivered)


def test_a_publish_at_qos_0_has_a_token_and_no_delivery(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    assert owner.link.publish(line, "up/x", b"0", qos=0) is not None
    last = owner.link.publish(line, "up/x", b"1")
    owner.wait_for(Delivered)
    assert [e.token for e in owner.of(Delivered)] == [last]


def test_nothing_is_published_before_or_after_a_line(provider, broker, owner):
    line = owner.link.open(lambda: dial_of(provider, broker.port))
    assert owner.link.publish(line, "up/x", b"early") is None
    owner.wait_for(Connected, line)
    broker.cut("c1")
    owner.wait_for(Lost, line)
    assert owner.link.publish(line, "up/x", b"late") is None


def test_a_broker_that_stops_reading_fills_no_memory(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    broker.mute("c1")
    taken = 0
    while owner.link.publish(line, "up/x", bytes(60_000)) is not None:
        owner.told += owner.link.poll(0)
        taken += 60_000
    assert 4_000_000 < taken < 16_000_000


def test_a_broker_that_acknowledges_nothing_is_left_before_what_it_owes_fills_the_memory(provider, broker, owner):
    broker.manners = Manners(is_acknowledging=False)
    line = owner.connect(dial_of(provider, broker.port))
    taken = 0
    while owner.link.publish(line, "up/x", bytes(60_000)) is not None:
        taken += 60_000
        owner.told += owner.link.poll(0.001)
    assert 16_000_000 < taken < 18_000_000
    assert "not acknowledged" in owner.wait_for(Lost, line)[0].detail

    broker.manners = Manners()
    again = owner.connect(dial_of(provider, broker.port))
    assert owner.link.publish(again, "up/x", b"x") is not None
    owner.wait_for(Delivered, again)


# Fairness


def test_a_burst_of_ten_thousand_leaves_the_other_lines_responsive(provider, broker, owner):
    burst = b"".join(publish_packet(CHATTY, bytes(100), mid) for mid in range(1, 10_001))
    quiet = owner.connect(dial_of(provider, broker.port, "quiet"))
    owner.connect(dial_of(provider, broker.port, "chatty"))
    broker.send("chatty", burst)
    owner.until(lambda: bool(owner.of(Arrived)), most=50)
    token = owner.link.publish(quiet, "up/x", b"x")
    owner.until(lambda: bool(owner.of(Delivered)), most=50)
    assert owner.of(Delivered)[0].token == token
    assert len(owner.of(Arrived)) < 10_000
    owner.wait_for(Arrived, count=10_000)
    assert [e.mid for e in owner.of(Arrived)] == list(range(1, 10_001))


def test_what_the_owner_does_not_take_waits(provider, broker, owner):
    owner.connect(dial_of(provider, broker.port))
    broker.send("c1", b"".join(publish_packet("down/x", bytes(1000), mid) for mid in range(1, 1001)))
    owner.until(lambda: bool(owner.of(Arrived)), most=10)
    assert len(owner.of(Arrived)) == 10
    assert len(owner.link._events) < 20


# Ends


def test_a_closed_line_sends_what_was_queued_and_then_goodbye(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port, will=Will("up/status", b"offline")))
    for number in range(1500):
        owner.link.publish(line, "up/x", b"%04d" % number)
    owner.link.close(line)
    owner.wait_for(Lost, line)
    owner.until(lambda: bool(broker.values("disconnect")))
    assert [h.what for h in broker.heard if h.what != "gone"][2:] == ["publish"] * 1500 + ["disconnect"]


def test_a_closed_line_is_told_once(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port))
    owner.link.close(line)
    owner.link.close(line)
    owner.wait_for(Lost, line)
    owner.link.close(line)
    owner.told += owner.link.poll(0.05)
    assert [e.loss for e in owner.of(Lost)] == [Loss.CLOSED]


def test_a_line_that_is_not_there_yet_can_be_closed(provider, owner):
    with deaf_port() as port:
        waiting = owner.link.open(lambda: dial_of(provider, port), after_s=60)
        knocking = owner.link.open(lambda: dial_of(provider, port))
        owner.link.poll(0.05)
        for line in (waiting, knocking):
            owner.link.close(line)
            assert owner.wait_for(Lost, line)[0].loss is Loss.CLOSED


def test_a_cut_line_leaves_its_will(provider, broker, owner):
    line = owner.connect(dial_of(provider, broker.port, will=Will("up/status", b"offline")))
    owner.link.shutdown()
    end = time.monotonic() + DEADLINE_S
    while not broker.values("will") and time.monotonic() < end:
        os.sched_yield()
    assert broker.values("will") == [("up/status", b"offline")]
    assert line


def test_a_watched_descriptor_is_told_in_the_same_poll(owner):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        owner.link.watch(ours, "udev")
        assert owner.link.poll(0) == []
        theirs.send(b"x")
        assert owner.link.poll(1.0) == [Readable("udev")]
        ours.recv(1)
        assert owner.link.poll(0) == []


def test_an_idle_poll_waits_as_long_as_asked_and_burns_nothing(owner):
    start, used = time.monotonic(), time.process_time()
    assert owner.link.poll(0.3) == []
    assert 0.3 <= time.monotonic() - start < 60
    assert time.process_time() - used < 0.1


def test_nothing_is_left_open_after_shutdown(provider, broker):
    # What tests before it left to the collector is not ours.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    owner = Owner()
    owner.connect(dial_of(provider, broker.port))
    with deaf_port() as port:
        owner.link.open(lambda: dial_of(provider, port))
        owner.link.poll(0.05)
    owner.link.shutdown()
    end = time.monotonic() + DEADLINE_S
    while len(list(Path("/proc/self/fd").iterdir())) > before and time.monotonic() < end:
        os.sched_yield()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
