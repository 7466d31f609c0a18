"""What the embedded broker survives, kills and full disks, and how it ends and says that it cannot begin."""

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.brokerhouse import ALL_UP, NARROW, BrokerProcess, down, is_turned_away, spawn, up
from tests.live.rawmqtt import DISCONNECT, PUBACK, UNSUBACK, publish, unsubscribe

pytestmark = pytest.mark.live


@pytest.fixture
def own(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Give a broker that the test may kill and start again."""
    running = BrokerProcess(tmp_path, NARROW + "[limits.server]\npackets_per_s = 0\n")
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
    assert same_store.communicate(timeout=120)[0] == ""
    assert same_store.returncode == 2
    text = (own.folder / "broker.toml").read_text()
    (own.folder / "other.toml").write_text(
        text.replace("broker.db", "other.db").replace("port = 0", f"port = {own.port}")
    )
    same_port = spawn(own.folder / "other.toml", own.folder / "third.log")
    assert same_port.communicate(timeout=120)[0] == ""
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
    assert process.communicate(timeout=120)[0] == ""
    assert process.returncode == 2
    assert said in broker.log
    assert broker.log.count("\n") == 1
