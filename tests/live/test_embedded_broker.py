"""The embedded broker from outside, over real TLS: who may say and hear what, within which bounds, in which protocol.

Every refusal has a twin that is let through, mostly in the same test.
"""

import contextlib
import os
import socket
import time
from random import Random

import pytest

from fleetward_broker import profiles
from fleetward_schemas.certificates import Unit
from tests.live.brokerhouse import ALL_UP, SUFFIX, BrokerProcess, down, fresh_id, up
from tests.live.mutating import mutated
from tests.live.rawmqtt import DISCONNECT, PINGREQ, PUBACK, WAIT_S, RawClient, WillOf, connect, publish, subscribe

pytestmark = pytest.mark.live
MUTATIONS = int(os.environ.get("FLEETWARD_MUTATIONS", "300"))


# Subscriptions


def test_a_subscription_is_judged_member_by_member(broker):
    badge, other = broker.device(), fresh_id()
    forbidden = ["#", "+/#", "$SYS/#", f"$share/g/{ALL_UP}", down(other), "fw/v1/d/+/down/command", ALL_UP, "fw/v1/#"]
    with broker.enter(badge) as client:
        wanted = [down(badge.name), *forbidden, "fw/v1/fleet/#", f"fw/v1/d/{badge.name}/down/+"]
        assert client.subscribe(*wanted) == [1, *[0x80] * len(forbidden), 1, 1]


def test_a_refused_subscription_hears_nothing(broker):
    badge, other = broker.device(), broker.device()
    with broker.enter(badge) as spy, broker.enter(other) as client, broker.server() as server:
        assert spy.subscribe("#", down(other.name)) == [0x80, 0x80]
        assert client.subscribe(down(other.name)) == [1]
        server.publish(down(other.name), b"private")
        assert client.hear().payload == b"private"
        assert spy.is_quiet()


def test_a_view_reads_views_and_publishes_nothing(broker):
    badge = broker.pki.badge("view-7", profiles.SERVICE_CLIENT, Unit.SERVICE)
    with broker.enter(badge) as view, broker.server() as server:
        assert view.subscribe("fw/v1/view/#", ALL_UP, "fw/v1/fleet/#") == [1, 0x80, 0x80]
        server.publish("fw/v1/view/summary", b"42")
        assert view.hear().payload == b"42"
        view.send(publish("fw/v1/view/summary", b"43"))
        assert view.is_closed()


def test_a_delivery_has_the_lower_of_both_qos(broker):
    badge = broker.device()
    with broker.enter(badge) as client, broker.server() as server:
        assert client.subscribe(down(badge.name), qos=2) == [1]
        server.send(publish(down(badge.name), b"zero", qos=0))
        server.publish(down(badge.name), b"one")
        assert [client.hear().qos for _ in range(2)] == [0, 1]


# Publishing


@pytest.mark.parametrize(
    "make",
    [
        lambda own, other: publish(up(other)),
        lambda own, other: publish(up(other), qos=0),
        lambda own, other: publish("fw/v1/fleet/release"),
        lambda own, other: publish(down(own)),
        lambda own, other: publish(down(other)),
        lambda own, other: publish(up(own), retain=True),
        lambda own, other: publish(f"fw/v1/d/{own}/up/+"),
        lambda own, other: publish("$SYS/broker"),
        lambda own, other: publish(""),
    ],
)
def test_a_forbidden_publish_ends_the_connection_and_reaches_nobody(broker, make):
    badge, other = broker.device(), fresh_id()
    with broker.server("fw/v1/#") as server, broker.enter(badge) as client:
        client.publish(up(badge.name), b"lawful")
        client.send(make(badge.name, other))
        assert client.is_closed()
        assert server.hear().payload == b"lawful"
        assert server.is_quiet()
    assert f"refused principal={badge.name} action=" in broker.log


@pytest.mark.parametrize("will", [WillOf("fw/v1/fleet/beacon"), WillOf("fw/v1/d/x/up/status"), WillOf("", qos=2)])
def test_a_will_to_a_foreign_topic_is_refused_at_connect(broker, will):
    badge = broker.device()
    with broker.dial(badge) as client:
        assert client.enter(f"{badge.name}-{SUFFIX}", will=will) == (5, False)
        assert client.is_closed()
    broker.enter(badge, will=WillOf(up(badge.name, "status")))


def test_a_retained_will_of_a_device_is_refused(broker):
    badge = broker.device()
    with broker.dial(badge) as client:
        assert client.enter(f"{badge.name}-{SUFFIX}", will=WillOf(up(badge.name, "status"), retain=True))[0] == 5


def test_a_retained_message_goes_to_its_subscribers_alone(broker):
    owner, other = broker.device(), broker.device()
    with broker.server() as server:
        server.publish(down(owner.name, "assignment"), b"kept", retain=True)
    with broker.enter(other) as stranger, broker.enter(owner) as client:
        assert stranger.subscribe(down(owner.name, "assignment"), f"fw/v1/d/{other.name}/down/#") == [0x80, 1]
        assert client.subscribe(f"fw/v1/d/{owner.name}/down/#") == [1]
        said = client.hear()
        assert (said.payload, said.retain) == (b"kept", True)
        assert stranger.is_quiet()


def test_an_empty_payload_clears_what_was_retained(broker):
    badge = broker.device()
    with broker.server() as server, broker.enter(badge) as client:
        server.publish(down(badge.name, "assignment"), b"kept", retain=True)
        server.publish(down(badge.name, "assignment"), b"", retain=True)
        client.subscribe(down(badge.name, "assignment"))
        assert client.is_quiet()


# Bounds


def test_a_packet_over_64_kib_ends_the_connection_and_one_below_passes(broker):
    badge = broker.device()
    with broker.server(up(badge.name)) as server, broker.enter(badge) as client:
        client.publish(up(badge.name), b"p" * 65_000)
        assert len(server.hear().payload) == 65_000
        with contextlib.suppress(OSError):
            client.send(publish(up(badge.name), b"p" * 70_000))
        assert client.is_closed()
    assert "too-large" in broker.log


def test_a_line_without_connect_or_without_a_handshake_is_ended_and_one_with_both_stays(tmp_path):
    """By a broker of its own: every other one lets a busy machine take its time."""
    with (
        BrokerProcess(tmp_path, "[limits]\nconnect_s = 3\n") as hasty,
        socket.create_connection(("127.0.0.1", hasty.port), WAIT_S) as speechless,
        hasty.dial(hasty.device()) as silent,
        hasty.enter(hasty.device()) as client,
    ):
        assert silent.is_closed()
        assert speechless.recv(1) == b""
        assert client.is_quiet()


def test_a_dead_keep_alive_says_the_will_and_a_live_one_does_not(broker):
    dead, alive = broker.device(), broker.device()
    wills = {badge: WillOf(up(badge.name, "status"), badge.name.encode()) for badge in (dead, alive)}
    with broker.server("fw/v1/d/+/up/status") as server:
        with (
            broker.enter(dead, keep_alive=1, will=wills[dead]) as client,
            broker.enter(alive, will=wills[alive]) as other,
        ):
            assert server.hear().payload == dead.name.encode()
            assert client.is_closed()
            other.send(PINGREQ, DISCONNECT)
            assert other.is_closed()
        assert server.is_quiet()


def test_a_fast_publisher_is_slowed_down_and_loses_nothing(broker):
    badge, count = broker.device(), 500
    with broker.server(up(badge.name)) as server, broker.enter(badge) as client:
        began = time.monotonic()
        client.send(*(publish(up(badge.name), b"%d" % n, mid=n + 1) for n in range(count)))
        heard = [server.hear().payload for _ in range(count)]
        for _ in range(count):
            client.expect(PUBACK)
        assert client.is_quiet()
    assert heard == [b"%d" % n for n in range(count)]
    assert time.monotonic() - began > (count - 200) / 400 * 0.5


def test_a_slow_reader_loses_qos_0_and_holds_up_nobody(broker):
    slow, quick = broker.device(), broker.device()
    with broker.server() as server, broker.enter(slow) as client, broker.enter(quick) as other:
        client.subscribe("fw/v1/fleet/#", qos=0)
        other.subscribe("fw/v1/fleet/checkpoint")
        for _ in range(200):
            server.send(publish("fw/v1/fleet/beacon", b"b" * 60_000, qos=0))
        server.publish("fw/v1/fleet/checkpoint", b"through")
        assert other.hear().payload == b"through"
        client.send(PINGREQ)
        assert sum(1 for _ in iter(lambda: _beacon(client), None)) < 200


def _beacon(client: RawClient) -> bytes | None:
    try:
        return client.hear(within_s=1).payload
    except TimeoutError:
        return None


# What is not MQTT 3.1.1


@pytest.mark.parametrize(
    "raw",
    [
        b"\x36\x05\x00\x01a\x00\x01",
        subscribe(),
        b"\x80" + subscribe("fw/v1/fleet/#")[1:],
        subscribe("fw/v1/fleet/#", mid=0),
        b"\x30\x81\x00\x00",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x10\x00",
        b"\x00\x00",
        b"\xf0\x00",
        b"\xc0\x01\x00",
        b"\x40\x03\x00\x01\x00",
        publish(b"\xff\xfe"),
        b"\x30\x02\x00\x05",
    ],
)
def test_a_malformed_packet_ends_its_connection_alone(broker, raw):
    with broker.enter(broker.device()) as client, broker.enter(broker.device()) as other:
        client.send(raw)
        assert client.is_closed()
        assert other.is_quiet()


def test_qos_2_is_not_spoken(broker):
    badge = broker.device()
    with broker.enter(badge) as client:
        client.publish(up(badge.name))
        client.send(publish(up(badge.name), qos=2))
        assert client.is_closed()


def test_another_protocol_level_is_told_so(broker):
    with broker.dial(broker.device()) as client:
        client.send(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05abcde\x00")
        assert client.expect(2)[1] == 1


def test_a_server_certificate_is_shown_that_its_name_proves(broker):
    context = broker.device().context
    assert context.check_hostname
    with RawClient(broker.port, context) as client:
        assert client.socket.version() == "TLSv1.3"


def test_mutated_packets_harm_nobody_else(broker):
    chance, badge = Random(20), broker.device()
    with broker.server(up(badge.name)) as bystander:
        for _ in range(MUTATIONS):
            with broker.dial(badge) as client:
                client.send(connect(f"{badge.name}-{SUFFIX}") * chance.choice((0, 1)), mutated(chance, badge.name))
                client.socket.shutdown(socket.SHUT_WR)
                assert client.is_closed()
        with broker.enter(broker.device(badge.name)) as good:
            good.publish(up(badge.name), b"the last")
        while bystander.hear().payload != b"the last":
            pass
    assert " failed " not in broker.log.replace("reload failed", "")
