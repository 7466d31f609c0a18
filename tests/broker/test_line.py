"""A line without a network: the wait before a repeat, and a wire that no broker's bytes can make raise."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.line import Arrived, Connected, Dial, Event, LineId, Loss, Lost, Token, Will, backoff_s
from fleetward_broker.packets import Publish, publish
from fleetward_broker.wire import Wire
from fleetward_schemas.errors import LocalMistake

CONNACK = b"\x20\x02\x00\x00"
LINE = LineId(1)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_before_a_repeat_is_never_over_five_minutes(attempt, chance):
    assert 0 <= backoff_s(attempt, chance) < 300


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_the_wait_before_a_repeat_doubles_until_it_may_not(attempt, chance):
    assert backoff_s(attempt, chance) <= chance * 2**attempt
    assert backoff_s(attempt, chance) <= backoff_s(attempt + 1, chance)


@contextmanager
def wire_of(told: list[Event], **changes: object) -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the broker's end of its socket, without TLS."""
    ours, theirs = socket.socketpair()
    dial = Dial("localhost", 1, "localhost", "c1", None, **{"clean": True, **changes})
    with theirs:
        wire = Wire(LINE, dial, ours, tell=told.append, wants=lambda _: None)
        wire.write()
        yield wire, theirs
        wire.drop()


def read_all(wire: Wire, broker: socket.socket, raw: bytes) -> None:
    broker.sendall(raw)
    broker.shutdown(socket.SHUT_WR)
    while wire.end is None:
        wire.read()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first, len(body)]) + body


@given(st.lists(st.builds(packet, st.integers(0, 255), st.binary(max_size=40)), max_size=8), st.booleans())
def test_no_packet_of_a_broker_makes_a_wire_raise(packets, is_greeted):
    told: list[Event] = []
    with wire_of(told) as (wire, broker):
        read_all(wire, broker, CONNACK * is_greeted + b"".join(packets))
    assert isinstance(wire.end, Lost)
    assert all(isinstance(e, (Arrived, Connected)) for e in told)


@given(st.binary(max_size=400))
def test_no_bytes_of_a_broker_make_a_wire_raise(raw):
    with wire_of([]) as (wire, broker):
        read_all(wire, broker, CONNACK + raw)
    assert wire.end.loss is Loss.DROPPED


def test_connect_carries_the_will_at_qos_1_and_not_retained():
    with wire_of([], will=Will("up/status", b"gone"), keep_alive_s=45) as (_, broker):
        connect = broker.recv(1000)
    assert connect[2:12] == b"\x00\x04MQTT\x04\x0e\x00\x2d"
    assert connect[12:] == b"\x00\x02c1\x00\x09up/status\x00\x04gone"


def test_all_that_one_turn_queues_leaves_in_one_write():
    told: list[Event] = []
    with wire_of(told) as (wire, broker):
        broker.recv(1000)
        broker.sendall(CONNACK)
        wire.read()
        for mid in (3, 1, 2):
            wire.ack(Arrived(LINE, "x", b"", 1, False, mid))
        wire.write()
        assert broker.recv(1000) == b"\x40\x02\x00\x03\x40\x02\x00\x01\x40\x02\x00\x02"


def test_a_packet_over_the_limit_is_our_own_mistake():
    told: list[Event] = []
    with wire_of(told) as (wire, broker):
        broker.sendall(CONNACK)
        wire.read()
        assert wire.publish(Token(1), "up/x", bytes(60_000), qos=1, retain=False)
        with pytest.raises(LocalMistake):
            wire.publish(Token(2), "up/x", bytes(65_536), qos=1, retain=False)


def test_a_live_line_listens_to_more_and_to_less_in_one_packet_each():
    told: list[Event] = []
    with wire_of(told) as (wire, broker):
        broker.recv(1000)
        broker.sendall(CONNACK)
        wire.read()
        wire.subscribe(("a/1", "a/2"))
        wire.unsubscribe(("a/1",))
        wire.write()
        sent = broker.recv(1000)
        broker.sendall(b"\x90\x04\x00\x01\x01\x80" + b"\xb0\x02\x00\x02" + b"\x30\x05\x00\x03a/2")
        while len(told) < 2:
            wire.read()
    assert sent == b"\x82\x0e\x00\x01\x00\x03a/1\x01\x00\x03a/2\x01" + b"\xa2\x07\x00\x02\x00\x03a/1"
    assert wire.end is None
    assert [type(one) for one in told] == [Connected, Arrived]


@pytest.mark.parametrize("change", ["subscribe", "unsubscribe"])
def test_a_line_that_is_not_connected_listens_to_nothing_more(change):
    with wire_of([]) as (wire, broker):
        broker.recv(1000)
        getattr(wire, change)(("a/1",))
        wire.write()
        broker.setblocking(False)
        with pytest.raises(BlockingIOError):
            broker.recv(1000)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.integers(1, 90))
def test_messages_come_out_whole_however_they_come_in(payloads, width):
    told: list[Event] = []
    sent = b"".join(publish(Publish("up/x", payload, 1, False, mid)) for mid, payload in enumerate(payloads, 1))
    with wire_of(told) as (wire, broker):
        for at in range(0, len(sent), width):
            broker.sendall(sent[at : at + width])
            wire.read()
        assert wire.end is None
    assert told == [Arrived(LINE, "up/x", payload, 1, False, mid) for mid, payload in enumerate(payloads, 1)]


def test_a_message_at_qos_2_ends_the_line():
    told: list[Event] = []
    with wire_of(told) as (wire, broker):
        read_all(wire, broker, CONNACK + b"\x34\x05\x00\x01x\x00\x01")
    assert wire.end.detail == "MQTT_ERR_PROTOCOL"
    assert told == [Connected(LINE, session_present=False)]
