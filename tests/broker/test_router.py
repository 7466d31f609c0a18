"""The router: who gets what, in what order, and what of it must be on disk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.embedded.config import Limits, RoleLimits
from fleetward_broker.embedded.store import (
    Copy,
    Dequeue,
    DropSession,
    Enqueue,
    KeepMessage,
    Kept,
    KeptSession,
    Message,
    Retain,
    Unretain,
)
from fleetward_broker.embedded.wire import REFUSED
from fleetward_broker.packets import Publish
from tests.broker.sessions import DEVICE, NOW, OTHER, SUFFIX, Town, topic

NARROW = Limits(device=RoleLimits(window=2, sessions=2, subscriptions=2, queue_messages=3, queue_bytes=10_000))


def test_a_message_goes_to_its_subscriber_alone():
    town = Town()
    (session, line), (_, other) = town.enter(), town.enter(OTHER)
    town.router.subscribe(session, [(topic("command"), 1)])
    town.publish(topic("command"))
    assert (line.payloads(), other.payloads()) == ([b"x"], [])


def test_two_filters_that_match_deliver_once_at_the_higher_qos():
    town = Town()
    session, line = town.enter()
    town.router.subscribe(session, [(topic("command"), 0), (topic("+"), 1)])
    town.publish(topic("command"))
    assert [message.qos for message in line.heard()] == [1]


def test_a_delivery_is_asked_of_the_gate_again():
    town = Town()
    session, line = town.enter()
    town.router.subscribe(session, [("fw/v1/fleet/#", 1)])
    town.publish("fw/v1/fleet/release")
    town.publish("fw/v1/fleet")
    assert [message.topic for message in line.heard()] == ["fw/v1/fleet/release"]


def test_a_retained_message_is_asked_of_the_gate_too():
    town = Town()
    for where in ("fw/v1/fleet", "fw/v1/fleet/release"):
        town.publish(where, retain=True)
    session, line = town.enter()
    assert town.router.send_retained(session, {"fw/v1/fleet/#": 1}) == 1
    assert [message.topic for message in line.heard()] == ["fw/v1/fleet/release"]


def test_a_subscription_beyond_the_bound_is_refused_and_a_known_one_is_not():
    town = Town(NARROW)
    session, _ = town.enter()
    wishes = [(topic("a"), 1), (topic("b"), 1), (topic("c"), 1), (topic("a"), 0)]
    assert town.router.subscribe(session, wishes) == [1, 1, REFUSED, 0]


def test_no_more_is_in_flight_than_the_window_and_an_ack_sends_the_next():
    town = Town(NARROW)
    session, line = town.enter()
    town.router.subscribe(session, [(topic("command"), 1)])
    for payload in (b"1", b"2", b"3"):
        town.publish(topic("command"), payload)
    first = line.heard()
    town.router.acknowledge(session, first[0].packet_id)
    assert ([m.payload for m in first], line.payloads()) == ([b"1", b"2"], [b"3"])


def test_an_ack_for_nothing_changes_nothing():
    town = Town()
    session, _ = town.enter()
    town.router.acknowledge(session, 7)
    assert town.store.of(Dequeue) == []


@pytest.mark.parametrize("is_kept", [True, False])
def test_only_a_kept_session_needs_the_disk(is_kept):
    town = Town()
    session, _ = town.enter(clean=not is_kept)
    town.router.subscribe(session, [(topic("command"), 1)])
    assert town.publish(topic("command")) is is_kept
    assert len(town.store.of(Enqueue)) == is_kept


def test_one_message_for_many_is_kept_once():
    town = Town()
    for name in (DEVICE, OTHER):
        session, _ = town.enter(name)
        town.router.subscribe(session, [("fw/v1/fleet/release", 1)])
    town.publish("fw/v1/fleet/release", retain=True)
    kinds = (KeepMessage, Enqueue, Retain)
    assert [len(town.store.of(kind)) for kind in kinds] == [1, 2, 1]


def test_a_retained_message_is_sent_as_such_and_an_empty_one_clears_it():
    town = Town()
    town.publish("fw/v1/fleet/release", b"new", retain=True)
    session, line = town.enter()
    town.router.subscribe(session, [("fw/v1/fleet/+", 1)])
    assert town.router.send_retained(session, {"fw/v1/fleet/+": 1}) == 1
    assert [(m.payload, m.retain) for m in line.heard()] == [(b"new", True)]
    town.publish("fw/v1/fleet/release", b"", retain=True)
    assert town.router.send_retained(session, {"fw/v1/fleet/+": 1}) == 0
    assert [(m.payload, m.retain) for m in line.heard()] == [(b"", False)]
    assert len(town.store.of(Unretain)) == 1


def test_a_new_line_for_the_same_client_cuts_the_old_one_first():
    town = Town()
    will = Publish(topic("status", way="up"), b"gone", 1, False)
    server, ears = town.enter("server")
    town.router.subscribe(server, [("fw/v1/d/+/up/#", 1)])
    session, old = town.enter(will=will)
    again, _ = town.enter()
    assert (old.reasons, ears.payloads()) == (["taken over"], [b"gone"])
    assert again is session


def test_goodbye_drops_the_will():
    town = Town()
    server, ears = town.enter("server")
    town.router.subscribe(server, [("fw/v1/d/+/up/#", 1)])
    session, _ = town.enter(will=Publish(topic("status", way="up"), b"gone", 1, False))
    town.router.leave(session, NOW, goodbye=True)
    assert ears.payloads() == []


def test_a_full_queue_drops_the_newest_and_counts_it():
    town = Town(NARROW)
    session, line = town.enter()
    town.router.subscribe(session, [(topic("command"), 1)])
    for payload in (b"1", b"2", b"3", b"4"):
        town.publish(topic("command"), payload)
    sent = line.heard()
    for message in sent:
        town.router.acknowledge(session, message.packet_id)
    assert [m.payload for m in sent] + line.payloads() == [b"1", b"2", b"3"]
    assert session.dropped == 0


def test_a_session_too_many_ends_the_oldest_absent_one_and_its_queue():
    town = Town(NARROW)
    first, line = town.enter(suffix="a" * 16)
    town.router.subscribe(first, [(topic("command"), 1)])
    town.publish(topic("command"))
    line.cut("lost")
    _, second = town.enter(suffix="b" * 16)
    town.enter(suffix="c" * 16)
    assert (second.reasons, town.router.session_count) == ([], 2)
    assert [change.client_id for change in town.store.of(DropSession)] == [f"{DEVICE}-{'a' * 16}"]
    assert len(town.store.of(Dequeue)) == 1


def test_a_clean_session_takes_nothing_over_and_leaves_nothing():
    town = Town()
    kept, line = town.enter()
    town.router.subscribe(kept, [(topic("command"), 1)])
    line.cut("lost")
    _, line = town.enter(clean=True)
    town.publish(topic("command"))
    line.cut("lost")
    assert (line.payloads(), town.router.session_count) == ([], 0)


def test_an_absent_session_expires_and_a_present_one_does_not():
    town = Town()
    _, line = town.enter()
    town.enter(OTHER)
    line.cut("lost")
    town.router.expire(NOW + 1)
    assert town.router.session_count == 1


def test_what_was_kept_is_there_after_a_start_marked_as_perhaps_sent():
    queue = [Copy(Message(topic("command"), b"%d" % n, 1, n), again=True) for n in (1, 2)]
    client_id = f"{DEVICE}-{SUFFIX}"
    kept = Kept({client_id: KeptSession(NOW, {topic("command"): 1}, queue)}, {}, last_number=2)
    town = Town(kept=kept)
    _, line = town.enter()
    town.publish(topic("command"), b"3")
    assert line.raw[0] & 8
    assert line.payloads() == [b"1", b"2", b"3"]
    assert [change.number for change in town.store.of(Enqueue)] == [3]


@given(st.lists(st.sampled_from(["publish", "ack", "lose", "return"]), max_size=60))
def test_no_order_of_losses_and_acks_loses_or_reorders_a_message(steps):
    town, sent, taken = Town(NARROW), [], []
    session, line = town.enter()
    town.router.subscribe(session, [(topic("command"), 1)])
    for step in [*steps, "return", *["ack"] * 9]:
        if step == "publish" and session.has_room:
            sent.append(b"%d" % len(sent))
            town.publish(topic("command"), sent[-1])
        elif step == "ack" and session.in_flight and session.line is not None:
            packet_id = next(iter(session.in_flight))
            taken.append(session.in_flight[packet_id].message.payload)
            town.router.acknowledge(session, packet_id)
        elif step == "lose" and session.line is not None:
            line.cut("lost")
        elif step == "return":
            session, line = town.enter()
    assert taken == sent
    assert len(town.store.of(Dequeue)) == len(sent)
