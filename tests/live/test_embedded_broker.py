"""The embedded broker from outside, over real TLS: who gets in, who may say and hear what, and what it survives.

Every refusal has a twin that is let through, mostly in the same test.
"""

import contextlib
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from fleetward_broker import profiles
from fleetward_schemas.certificates import Unit
from tests.live.brokerhouse import SUFFIX, BrokerProcess, Pki, fresh_id, spawn
from tests.live.rawmqtt import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    UNSUBACK,
    Closed,
    RawClient,
    WillOf,
    connect,
    puback,
    publish,
    subscribe,
    unsubscribe,
)

pytestmark = pytest.mark.live

LIMITS = """
[limits]
connect_s = 1
[limits.device]
queue_messages = 50
burst = 200
packets_per_s = 400
"""
ALL_UP = "fw/v1/d/+/up/#"
MUTATIONS = int(os.environ.get("FLEETWARD_MUTATIONS", "300"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def _hang_up(broker: BrokerProcess) -> Iterator[None]:
    yield
    broker.hang_up()


def up(name: str, kind: str = "telemetry") -> str:
    return f"fw/v1/d/{name}/up/{kind}"


def down(name: str, kind: str = "command") -> str:
    return f"fw/v1/d/{name}/down/{kind}"


def is_turned_away(broker: BrokerProcess, context: ssl.SSLContext, name: str) -> bool:
    """Say whether a client gets no CONNACK: in TLS 1.3 a refusal may come after the client's own handshake."""
    try:
        with RawClient(broker.port, context) as client:
            client.enter(f"{name}-{SUFFIX}")
    except (Closed, ConnectionError, ssl.SSLError):
        return True
    return False


# Who gets in


@pytest.mark.parametrize("name", ["device", "factory", "server", "view"])
def test_each_role_gets_in_under_its_own_authority(broker, name):
    lawful = {
        "device": (fresh_id(), profiles.TRANSPORT, Unit.DEVICE),
        "factory": (f"f-{fresh_id()}", profiles.FACTORY, Unit.FACTORY),
        "server": ("server", profiles.SERVICE_CLIENT, Unit.SERVICE),
        "view": ("view-1", profiles.SERVICE_CLIENT, Unit.SERVICE),
    }
    with broker.enter(broker.pki.badge(*lawful[name])) as client:
        assert client.is_quiet()


@pytest.mark.parametrize(
    ("name", "unit"),
    [("server", Unit.DEVICE), ("view-1", Unit.DEVICE), ("f-", Unit.DEVICE), ("", Unit.FACTORY), ("", Unit.SERVICE)],
)
def test_a_name_under_another_authority_is_turned_away(broker, name, unit):
    spelled = name if name in {"server", "view-1"} else name + fresh_id()
    badge = broker.pki.badge(spelled, profiles.TRANSPORT, unit)
    assert is_turned_away(broker, badge.context, spelled)


@pytest.mark.parametrize("name", ["administrator", "server-2", "", "a" * 27])
def test_a_certificate_that_names_no_principal_is_turned_away(broker, name):
    assert is_turned_away(broker, broker.pki.badge(name or "x").context, name)


def test_no_certificate_is_turned_away(broker):
    assert is_turned_away(broker, broker.pki.context(), fresh_id())


def test_the_same_names_under_a_foreign_root_are_turned_away(broker, tmp_path):
    foreign, name = Pki(tmp_path / "rogue"), fresh_id()
    context = foreign.badge(name).context
    context.load_verify_locations(broker.pki.folder / "root.pem")
    assert is_turned_away(broker, context, name)


@pytest.mark.parametrize("hours", [(-3, -2), (2, 3)])
def test_a_certificate_outside_its_validity_is_turned_away(broker, hours):
    begin, end = (broker.pki.now + timedelta(hours=h) for h in hours)
    name = fresh_id()
    assert is_turned_away(broker, broker.pki.badge(name, start=begin, end=end).context, name)


@pytest.mark.parametrize("profile", [profiles.DEVICE, profiles.SERVER_TLS, profiles.SERVER_SIGNER])
def test_a_certificate_for_another_purpose_opens_no_line(broker, profile):
    name = fresh_id()
    assert is_turned_away(broker, broker.pki.badge(name, profile).context, name)


def test_a_signing_certificate_opens_no_line(broker):
    name = f"sign-{fresh_id()}"
    assert is_turned_away(broker, broker.pki.badge(name, profiles.DEVICE).context, name)


def test_a_revoked_certificate_is_cut_and_turned_away_while_others_stay(broker):
    good, bad = broker.device(), broker.device()
    with broker.enter(good) as stays, broker.enter(bad) as goes:
        broker.pki.revoke(bad)
        broker.reload()
        assert goes.is_closed()
        assert stays.is_quiet()
    assert is_turned_away(broker, bad.context, bad.name)
    assert not is_turned_away(broker, good.context, good.name)


def test_files_that_cannot_be_read_again_change_nothing(broker):
    crl = broker.pki.folder / "device.crl.pem"
    whole = crl.read_bytes()
    crl.write_text("nonsense")
    broker.reload()
    crl.write_bytes(whole)
    broker.enter(broker.device())
    assert "reload failed" in broker.log


@pytest.mark.parametrize(
    ("version", "is_welcome"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_1_2_or_1_3(broker, version, is_welcome):
    badge = broker.device()
    badge.context.set_ciphers("ALL:@SECLEVEL=0")
    badge.context.minimum_version = badge.context.maximum_version = version
    assert is_turned_away(broker, badge.context, badge.name) is not is_welcome


def test_a_certificate_that_ends_while_connected_ends_its_connection(broker):
    ending = broker.pki.badge(fresh_id(), end=datetime.now(UTC) + timedelta(seconds=2))
    with broker.enter(ending) as client, broker.enter(broker.device()) as other:
        assert client.is_closed()
        assert other.is_quiet()
    assert 'reason="certificate expired"' in broker.log


# Client ids and sessions


@pytest.mark.parametrize("suffix", ["", "-", "-short", "-0123456789abcde", "-0123456789abcde_", "-" + "a" * 65])
def test_a_client_id_needs_the_own_name_and_a_long_suffix(broker, suffix):
    badge = broker.device()
    with broker.dial(badge) as client:
        assert client.enter(badge.name + suffix) == (2, False)
        assert client.is_closed()
    broker.enter(badge)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_online", [True, False])
def test_anothers_client_id_is_refused_and_its_session_untouched(broker, clean, is_online):
    victim, thief = broker.device(), broker.device()
    topic = down(victim.name)
    client = broker.enter(victim, clean=False)
    assert client.subscribe(topic) == [1]
    if not is_online:
        client.send(DISCONNECT)
        assert client.is_closed()
    with broker.dial(thief) as other:
        assert other.enter(f"{victim.name}-{SUFFIX}", clean=clean) == (2, False)
    with broker.server() as server:
        server.publish(topic, b"yours")
    client = client if is_online else broker.enter(victim, clean=False)
    assert client.hear().payload == b"yours"


def test_the_same_client_id_takes_its_own_session_over_and_the_will_is_said(broker):
    badge = broker.device()
    will = WillOf(up(badge.name, "status"), b"offline")
    with broker.server(up(badge.name, "status")) as server:
        old, new = broker.enter(badge, will=will), broker.enter(badge)
        assert old.is_closed()
        assert server.hear().payload == b"offline"
        assert new.is_quiet()


def test_a_kept_session_keeps_subscriptions_and_messages(broker):
    badge = broker.device()
    with broker.enter(badge, clean=False) as client:
        client.subscribe(down(badge.name))
        client.send(DISCONNECT)
        assert client.is_closed()
    with broker.server() as server:
        server.publish(down(badge.name), b"one", mid=1)
        server.publish(down(badge.name), b"two", mid=2)
    with broker.dial(badge) as client:
        assert client.enter(f"{badge.name}-{SUFFIX}", clean=False) == (0, True)
        assert [client.hear().payload for _ in range(2)] == [b"one", b"two"]


def test_a_clean_session_keeps_nothing(broker):
    badge = broker.device()
    with broker.enter(badge) as client:
        client.subscribe(down(badge.name))
    with broker.server() as server:
        server.publish(down(badge.name), b"lost")
    with broker.dial(badge) as client:
        assert client.enter(f"{badge.name}-{SUFFIX}", clean=False) == (0, False)
        assert client.is_quiet()


def test_what_was_in_flight_comes_again_in_order_marked_as_such(broker):
    badge = broker.device()
    with broker.server() as server:
        with broker.enter(badge, clean=False) as client:
            client.subscribe(down(badge.name))
            for number in (1, 2, 3):
                server.publish(down(badge.name), b"%d" % number, mid=number)
            first = [client.hear(ack=False) for _ in range(3)]
        with broker.enter(badge, clean=False) as client:
            again = [client.hear() for _ in range(3)]
    assert [(s.payload, s.mid) for s in again] == [(s.payload, s.mid) for s in first]
    assert [s.dup for s in first + again] == [False] * 3 + [True] * 3


def test_a_full_queue_loses_the_newest_and_says_so(broker):
    badge = broker.device()
    with broker.enter(badge, clean=False) as client:
        client.subscribe(down(badge.name))
    with broker.server() as server:
        for number in range(60):
            server.publish(down(badge.name), b"%d" % number)
    with broker.enter(badge, clean=False) as client:
        assert [client.hear().payload for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert client.is_quiet()
    assert f"queue is full principal={badge.name}" in broker.log


def test_a_third_session_of_one_device_ends_its_oldest(broker):
    badge = broker.device()
    lines = [broker.dial(badge) for _ in range(3)]
    for number, line in enumerate(lines):
        assert line.enter(f"{badge.name}-{number:016d}")[0] == 0
    assert lines[0].is_closed()
    assert lines[1].is_quiet()
    assert lines[2].is_quiet()


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


def test_a_line_without_connect_is_ended_and_one_with_it_stays(broker):
    with broker.dial(broker.device()) as silent, broker.enter(broker.device()) as client:
        assert silent.is_closed(within_s=4)
        assert client.is_quiet()


def test_a_line_without_a_handshake_is_ended(broker):
    with socket.create_connection(("127.0.0.1", broker.port)) as silent:
        silent.settimeout(4)
        assert silent.recv(1) == b""


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


# What it survives


@pytest.fixture
def own(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Give a broker that the test may kill and start again."""
    running = BrokerProcess(tmp_path, LIMITS + "[limits.server]\npackets_per_s = 0\n")
    running.start()
    yield running
    running.hang_up()
    running.stop()


def test_500_acknowledged_messages_survive_a_kill(own):
    badge, worker, count = own.device(), own.server_badge(), 500
    own.enter_as(worker, "server", clean=False).subscribe(ALL_UP)
    own.hang_up()
    publisher = own.enter(badge)
    for first in range(0, count, 100):
        publisher.send(*(publish(up(badge.name), b"\xff%d" % n, mid=n + 1) for n in range(first, first + 100)))
        for _ in range(100):
            publisher.expect(PUBACK)
    assert own.stop(signal.SIGKILL) == -signal.SIGKILL
    own.start()
    server = own.enter_as(worker, "server", clean=False, is_known=True)
    assert [server.hear().payload for _ in range(count)] == [b"\xff%d" % n for n in range(count)]
    assert server.is_quiet()


def test_sessions_subscriptions_and_retained_messages_survive_a_kill(own):
    badge = own.device()
    client, server = own.enter(badge, clean=False), own.server()
    client.subscribe(down(badge.name), "fw/v1/fleet/#")
    client.send(unsubscribe("fw/v1/fleet/#"))
    client.expect(UNSUBACK)
    server.publish("fw/v1/fleet/release", b"kept", retain=True)
    server.publish(down(badge.name), b"heard")
    client.hear()
    assert client.subscribe(down(badge.name)) == [1]
    own.stop(signal.SIGKILL)
    own.start()
    client = own.enter_as(badge, badge.name, clean=False, is_known=True)
    own.server().publish(down(badge.name), b"again")
    assert client.hear().payload == b"again"
    assert client.subscribe("fw/v1/fleet/#") == [1]
    assert (client.hear().payload, client.is_quiet()) == (b"kept", True)


def test_what_was_cleared_or_acknowledged_does_not_come_back(own):
    badge = own.device()
    client, server = own.enter(badge, clean=False), own.server()
    client.subscribe(down(badge.name))
    server.publish(down(badge.name), b"once", retain=True)
    assert client.hear().payload == b"once"
    server.publish(down(badge.name), b"", retain=True)
    client.hear()
    assert client.is_quiet()
    assert own.stop() == 0
    own.start()
    client = own.enter_as(badge, badge.name, clean=False, is_known=True)
    assert client.is_quiet()
    assert client.subscribe(down(badge.name)) == [1]
    assert client.is_quiet()


def test_a_disk_that_fails_ends_the_broker_and_what_it_acknowledged_is_there(own):
    badge, worker, acknowledged = own.device(), own.server_badge(), 0
    own.enter_as(worker, "server", clean=False).subscribe(ALL_UP)
    own.hang_up()
    assert own.process is not None
    resource.prlimit(own.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with contextlib.suppress(ConnectionError), own.enter(badge) as publisher:
        for acknowledged in range(100):
            publisher.publish(up(badge.name), b"%03d" % acknowledged + b"." * 60_000)
    assert own.end() == 4
    own.start()
    server = own.enter_as(worker, "server", clean=False, is_known=True)
    assert [server.hear().payload[:3] for _ in range(acknowledged)] == [b"%03d" % n for n in range(acknowledged)]
    assert 5 < acknowledged < 99


def test_a_full_house_hangs_up_and_takes_the_next_one_when_there_is_room(tmp_path):
    with BrokerProcess(tmp_path, "[limits]\nconnections = 2\n") as small:
        first, _ = small.enter(small.device()), small.enter(small.device())
        third = small.device()
        assert is_turned_away(small, third.context, third.name)
        first.send(DISCONNECT)
        assert first.is_closed()
        small.hang_up()
        small.until(lambda: not is_turned_away(small, third.context, third.name))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_is_a_clean_stop(own, number):
    client = own.enter(own.device())
    assert own.stop(number) == 0
    assert client.is_closed()
    own.start()


def test_a_second_broker_on_the_same_store_or_port_says_so(own):
    same_store = spawn(own.folder / "broker.toml", own.folder / "second.log")
    assert same_store.communicate(timeout=20)[0] == ""
    assert same_store.returncode == 2
    text = (own.folder / "broker.toml").read_text()
    (own.folder / "other.toml").write_text(
        text.replace("broker.db", "other.db").replace("port = 0", f"port = {own.port}")
    )
    same_port = spawn(own.folder / "other.toml", own.folder / "third.log")
    assert same_port.communicate(timeout=20)[0] == ""
    assert same_port.returncode == 3
    assert f"127.0.0.1:{own.port}" in (own.folder / "third.log").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port = 0", "port = 70000", "listen.port: expected an integer 0..65535, found 70000"),
        ('path = "broker.db"', "", "store.path: expected a text, found nothing"),
        ("[tls]", "[tsl]", "tsl: unknown, expected one of limits, listen, log, store, tls"),
        ("pki/root.pem", "pki/none.pem", "none.pem: No such file or directory"),
        ("[listen]", "[listen", "not TOML"),
    ],
)
def test_a_bad_configuration_is_one_line_that_names_it(tmp_path, old, new, said):
    broker = BrokerProcess(tmp_path)
    config = tmp_path / "broker.toml"
    config.write_text(config.read_text().replace(old, new))
    process = spawn(config, tmp_path / "broker.log")
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 2
    assert said in broker.log
    assert broker.log.count("\n") == 1


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


def mutated(chance: Random, name: str) -> bytes:
    """Return a lawful packet with a few bytes changed, cut out, put in or doubled."""
    lawful = (
        connect(f"{name}-{SUFFIX}", will=WillOf(up(name, "status"))),
        publish(up(name), b"payload"),
        publish(up(name), qos=0),
        subscribe(down(name), "fw/v1/fleet/#"),
        unsubscribe(down(name)),
        puback(1),
        PINGREQ,
        DISCONNECT,
    )
    raw = bytearray(chance.choice(lawful))
    for _ in range(chance.randint(1, 4)):
        at, width = chance.randrange(len(raw) + 1), chance.randint(1, 4)
        patch = chance.choice((chance.randbytes(width), raw[at : at + width] * 2, b""))
        raw[at : at + chance.randint(0, width)] = patch
    return bytes(raw)
