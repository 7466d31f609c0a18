"""Packets: one spelling each, and nothing but a refusal comes of anything else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward_broker import packets
from fleetward_broker.embedded import wire
from fleetward_broker.embedded.wire import Answer, Connect, Unwelcome
from fleetward_broker.framing import Packet, Splitter
from fleetward_broker.gate import MAX_PACKET_BYTES
from fleetward_broker.packets import Publish
from fleetward_schemas.errors import Code, Refused
from tests.live import rawmqtt
from tests.live.rawmqtt import WillOf

READERS = (wire.read_connect, packets.read_publish, packets.read_puback, wire.read_subscribe, wire.read_unsubscribe)
LAWFUL = (
    rawmqtt.connect("client-1", will=WillOf("a/b")),
    rawmqtt.publish("a/b", b"payload"),
    rawmqtt.puback(7),
    rawmqtt.subscribe("a/#", "b/+"),
    rawmqtt.unsubscribe("a/#"),
)


def only(raw: bytes) -> Packet:
    (packet,) = Splitter().feed(raw)
    return packet


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.integers(1, 50))
def test_packets_come_out_whole_however_they_come_in(payloads, width):
    sent = b"".join(rawmqtt.publish("a", payload) for payload in payloads)
    splitter = Splitter()
    pieces = [sent[at : at + width] for at in range(0, len(sent), width)]
    found = [packet for piece in pieces for packet in splitter.feed(piece)]
    assert [packets.read_publish(packet).payload for packet in found] == payloads


def test_a_packet_of_64_kib_is_the_largest():
    room = MAX_PACKET_BYTES - len(rawmqtt.publish("a", b"p" * 60_000)) + 60_000
    assert only(rawmqtt.publish("a", b"p" * room)).body_bytes
    with pytest.raises(Refused) as refused:
        list(Splitter().feed(rawmqtt.publish("a", b"p" * (room + 1))[:5]))
    assert refused.value.code is Code.TOO_LARGE


@given(st.text(max_size=20), st.binary(max_size=40), st.integers(0, 1), st.booleans(), st.integers(1, 65535))
def test_a_publish_reads_as_it_was_written(topic, payload, qos, retain, packet_id):
    message = Publish(topic, payload, qos, retain, packet_id * qos)
    assert packets.read_publish(only(packets.publish(message))) == message


@pytest.mark.parametrize("qos", [2, 3])
def test_qos_2_is_not_spoken(qos):
    with pytest.raises(Refused, match=f"QoS {qos}"):
        packets.read_publish(only(rawmqtt.publish("a", b"payload", qos=qos)))


def test_a_connect_reads_as_it_was_written():
    raw = rawmqtt.connect("client-1", clean=False, keep_alive=30, will=WillOf("a/b", b"gone", 1, True))
    assert wire.read_connect(only(raw)) == Connect("client-1", False, 30, Publish("a/b", b"gone", 1, True))


def test_subscriptions_read_as_they_were_written():
    assert wire.read_subscribe(only(rawmqtt.subscribe("a/#", "b", qos=1, mid=9))) == (9, [("a/#", 1), ("b", 1)])
    assert wire.read_unsubscribe(only(rawmqtt.unsubscribe("a/#", mid=9))) == (9, ["a/#"])


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (rawmqtt.connect(""), Answer.BAD_CLIENT_ID),
        (rawmqtt.connect("c", will=WillOf("a", qos=2)), Answer.NOT_ALLOWED),
        (rawmqtt.connect("c").replace(b"MQTT\x04", b"MQTT\x05"), Answer.WRONG_LEVEL),
    ],
)
def test_a_connect_that_is_understood_but_refused_gets_an_answer(raw, answer):
    with pytest.raises(Unwelcome) as refused:
        wire.read_connect(only(raw))
    assert refused.value.answer is answer


@pytest.mark.parametrize(
    "raw",
    [
        rawmqtt.packet(0x10, rawmqtt.connect("c")[2:] + b"tail"),
        rawmqtt.packet(0x11, rawmqtt.connect("c")[2:]),
        rawmqtt.connect("c").replace(b"MQTT", b"MQIs"),
        rawmqtt.connect("c").replace(b"\x04\x02", b"\x04\x03"),
        rawmqtt.connect("c").replace(b"\x04\x02", b"\x04\x0a"),
        rawmqtt.connect("c").replace(b"\x04\x02", b"\x04\x42"),
        rawmqtt.connect("c", will=WillOf("a", qos=3)),
        rawmqtt.packet(0x10, b""),
    ],
)
def test_a_connect_in_another_spelling_is_malformed(raw):
    with pytest.raises(Refused) as refused:
        wire.read_connect(only(raw))
    assert refused.value.code is Code.MALFORMED


@given(st.sampled_from(LAWFUL), st.data())
@example(rawmqtt.packet(0x82, b"\x00\x01\x00\x02\xed\xa0\x01"), None)
def test_nothing_but_a_refusal_comes_of_mutated_packets(raw, data):
    mutated = bytearray(raw)
    for _ in range(3 if data is not None else 0):
        at = data.draw(st.integers(0, len(mutated)))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        for packet in Splitter().feed(bytes(mutated)):
            for read in READERS:
                _try(read, packet)
    except Refused:
        return


def _try(read, packet):
    try:
        read(packet)
    except Refused:
        return
