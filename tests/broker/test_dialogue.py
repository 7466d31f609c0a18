"""The dialogue: what a client may say, and when, seen as bytes in and bytes out."""

import pytest

from fleetward_broker.embedded.dialogue import Dialogue
from fleetward_broker.embedded.wire import Answer, Unwelcome, connack
from fleetward_schemas.errors import Code, Refused
from tests.broker.sessions import DEVICE, NOW, OTHER, SUFFIX, FakeLine, Town, principal, topic
from tests.live import rawmqtt
from tests.live.rawmqtt import WillOf

CLIENT_ID = f"{DEVICE}-{SUFFIX}"


@pytest.fixture
def dialogue() -> Dialogue:
    return Dialogue(principal(DEVICE), Town().router, FakeLine())


def test_the_replies_come_in_the_order_of_the_packets(dialogue):
    owed = dialogue.take(
        rawmqtt.connect(CLIENT_ID)
        + rawmqtt.subscribe(topic("command"), "#", mid=5)
        + rawmqtt.publish(topic("telemetry", way="up"), mid=6)
        + rawmqtt.PINGREQ
        + rawmqtt.unsubscribe(topic("command"), mid=7),
        NOW,
    )
    assert owed.replies == connack(Answer.WELCOME) + b"\x90\x04\x00\x05\x01\x80\x40\x02\x00\x06\xd0\x00\xb0\x02\x00\x07"
    assert owed.cost == 5 + 2 + 1


def test_nothing_is_delivered_before_the_welcome_was_sent():
    town, line = Town(), FakeLine()
    dialogue = Dialogue(principal(DEVICE), town.router, line)
    owed = dialogue.take(rawmqtt.connect(CLIENT_ID) + rawmqtt.subscribe(topic("command")), NOW)
    town.publish(topic("command"), b"early")
    assert line.raw == b""
    for step in owed.then:
        step()
    assert line.payloads() == [b"early"]


@pytest.mark.parametrize("packet", [rawmqtt.PINGREQ, rawmqtt.publish("a"), rawmqtt.subscribe("a"), b"\x20\x02\x00\x00"])
def test_the_first_packet_is_a_connect(dialogue, packet):
    with pytest.raises(Refused) as refused:
        dialogue.take(packet, NOW)
    assert (refused.value.code, dialogue.session) == (Code.MALFORMED, None)


def test_there_is_one_connect(dialogue):
    dialogue.take(rawmqtt.connect(CLIENT_ID), NOW)
    with pytest.raises(Refused):
        dialogue.take(rawmqtt.connect(CLIENT_ID), NOW)


@pytest.mark.parametrize("client_id", [f"{OTHER}-{SUFFIX}", DEVICE, f"{DEVICE}{SUFFIX}", f"{CLIENT_ID}\n", "server"])
def test_a_client_id_that_is_not_the_callers_touches_nothing(client_id):
    town = Town()
    dialogue = Dialogue(principal(DEVICE), town.router, FakeLine())
    with pytest.raises(Unwelcome) as refused:
        dialogue.take(rawmqtt.connect(client_id), NOW)
    assert refused.value.answer is Answer.BAD_CLIENT_ID
    assert (town.router.session_count, town.store.written) == (0, [])


@pytest.mark.parametrize("will", [WillOf(topic("status", OTHER, "up")), WillOf(topic("status")), WillOf("#")])
def test_a_will_is_asked_of_the_gate_at_connect(dialogue, will):
    with pytest.raises(Unwelcome) as refused:
        dialogue.take(rawmqtt.connect(CLIENT_ID, will=will), NOW)
    assert (refused.value.answer, dialogue.action) == (Answer.NOT_ALLOWED, "will")


@pytest.mark.parametrize(
    ("packet", "action"),
    [
        (rawmqtt.publish(topic("status", OTHER, "up")), "publish"),
        (rawmqtt.publish(topic("status", way="up"), retain=True), "retain"),
        (rawmqtt.publish("fw/v1/fleet/beacon", qos=0), "publish"),
    ],
)
def test_a_forbidden_publish_ends_the_dialogue_by_its_name(dialogue, packet, action):
    dialogue.take(rawmqtt.connect(CLIENT_ID), NOW)
    with pytest.raises(Refused) as refused:
        dialogue.take(packet, NOW)
    assert (refused.value.code, dialogue.action) == (Code.NOT_ALLOWED, action)


def test_nothing_counts_after_disconnect(dialogue):
    dialogue.take(rawmqtt.connect(CLIENT_ID), NOW)
    owed = dialogue.take(rawmqtt.DISCONNECT + rawmqtt.publish("forbidden"), NOW)
    assert (dialogue.is_over, owed.cost) == (True, 1)


def test_a_filter_asked_for_a_thousand_times_in_one_turn_has_its_retained_messages_once_and_pays_for_them():
    town, line = Town(), FakeLine()
    for number in range(10):
        town.publish(f"fw/v1/fleet/release/{number}.bin-0a", retain=True)
    dialogue = Dialogue(principal(DEVICE), town.router, line)
    dialogue.take(rawmqtt.connect(CLIENT_ID), NOW).then[0]()
    wanted = [rawmqtt.subscribe("#", mid=1), *[rawmqtt.subscribe(*["fw/v1/fleet/#"] * 10, mid=2)] * 100]
    owed = dialogue.take(b"".join(wanted), NOW)
    before = owed.cost
    for step in owed.then:
        step()
    assert len(line.heard()) == 10
    assert (before, owed.cost) == (2 + 100 * 11, 2 + 100 * 11 + 10)
