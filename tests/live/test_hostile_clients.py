"""Hostile clients against both brokers: what each may try, and that the victim, the broker and its memory stay whole.

One promise, two brokers. Where Mosquitto cannot do what the embedded one does, the same test says what holds instead;
broker/README.md has the table. ``FLEETWARD_SEED`` replays the mutations.
"""

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import psutil
import pytest

from fleetward_broker import profiles
from fleetward_broker.mosquitto import ADMIN, ADMIN_TOPIC
from fleetward_schemas.certificates import Unit
from tests.live.brokerhouse import ALL_UP, SUFFIX, Badge, BrokerProcess, Pki, down, fresh_id, is_turned_away, up
from tests.live.mosquittohouse import MosquittoProcess
from tests.live.mutating import mutated
from tests.live.rawmqtt import DISCONNECT, PUBACK, Closed, RawClient, WillOf, connect, packet, publish, subscribe, text

pytestmark = pytest.mark.live

LIMITS = "\n[limits.device]\npackets_per_s = 0\n"
SEED = int(os.environ.get("FLEETWARD_SEED", "20261124"))
MIB = 1 << 20
CONNACK_WELCOME = b"\x20\x02\x00\x00"
PER_LINE, LINES = 3, 3400
HOUSES = {"embedded": lambda folder: BrokerProcess(folder, LIMITS), "mosquitto": MosquittoProcess}


@pytest.fixture(scope="module", params=["embedded", pytest.param("mosquitto", marks=pytest.mark.part)])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with HOUSES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(autouse=True)
def _hang_up(broker: BrokerProcess) -> Iterator[None]:
    yield
    broker.hang_up()


def filters_at_delivery(broker: BrokerProcess) -> bool:
    """Mosquitto grants what it is asked for, and judges each message."""
    return isinstance(broker, MosquittoProcess)


def memory(broker: BrokerProcess) -> int:
    assert broker.process is not None
    return psutil.Process(broker.process.pid).memory_info().rss


@pytest.fixture
def told(broker: BrokerProcess, figure: Callable[[str], None]) -> Iterator[None]:
    """Print how much memory a test cost."""
    before = memory(broker)
    yield
    name = type(broker).__name__.removesuffix("Process")
    figure(f"{name}: {before // MIB} MiB before, {(memory(broker) - before) / MIB:+.1f} MiB")


class Victim:
    """A device that hears its commands, whatever happens around it."""

    def __init__(self, broker: BrokerProcess, suffix: str = SUFFIX) -> None:
        self.broker, self.badge, self.suffix = broker, broker.device(), suffix
        self._come()

    def _come(self) -> None:
        self.falls, self.server = self.broker.falls, self.broker.server()
        self.line = self._enter(self.suffix)
        assert self.line.subscribe(down(self.badge.name)) == [1]

    def _enter(self, suffix: str) -> RawClient:
        client = self.broker.dial(self.badge)
        assert client.enter(f"{self.badge.name}-{suffix}", clean=False)[0] == 0
        return client

    def is_well(self, payload: bytes = b"for you") -> bool:
        if self.falls != self.broker.falls:
            # It fell over its lists, as Mosquitto 2.0.11 may (broker/README.md); then everybody comes back.
            self._come()
        self.server.publish(down(self.badge.name), payload)
        return self.line.hear().payload == payload


# Who gets in


def unlawful(broker: BrokerProcess, kind: str, name: str, folder: "os.PathLike[str]") -> ssl.SSLContext:
    """Return the context of somebody who must not get in."""
    now, hour, pki = broker.pki.now, timedelta(hours=1), broker.pki
    match kind:
        case "no certificate":
            return pki.context()
        case "rogue CA":
            context = Pki(type(pki.folder)(folder) / "rogue").badge(name).context
            context.load_verify_locations(pki.folder / "root.pem")
            return context
        case "expired":
            return pki.badge(name, start=now - 3 * hour, end=now - 2 * hour).context
        case "not yet valid":
            return pki.badge(name, start=now + 2 * hour, end=now + 3 * hour).context
        case "a signing certificate":
            return pki.badge(name, profiles.DEVICE).context
        case "a server's certificate":
            return pki.badge(name, profiles.SERVER_TLS, Unit.SERVICE).context
    badge = pki.badge(name)
    broker.revoke(badge)
    return badge.context


@pytest.mark.parametrize(
    "kind",
    [
        "no certificate",
        "rogue CA",
        "expired",
        "not yet valid",
        "a signing certificate",
        "a server's certificate",
        "revoked",
    ],
)
def test_who_must_not_get_in_stays_out_and_the_lawful_gets_in(broker, kind, tmp_path):
    name = fresh_id()
    assert is_turned_away(broker, unlawful(broker, kind, name, tmp_path), name)
    assert not is_turned_away(broker, broker.pki.badge(name).context, name)


def test_the_revoked_is_cut_while_connected_and_everybody_else_stays(broker):
    victim, bad = Victim(broker), broker.device()
    with broker.enter(bad) as line:
        broker.revoke(bad)
        assert line.is_closed()
    assert is_turned_away(broker, bad.context, bad.name)
    assert victim.is_well()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_of_before_the_revocation_opens_nothing_after_it(broker, version):
    bad = broker.device()
    bad.context.maximum_version = version
    with broker.enter(bad) as line:
        assert line.is_quiet()
        session = line.socket.session
    assert resumed(broker, bad, session) == CONNACK_WELCOME
    broker.revoke(bad)
    assert resumed(broker, bad, session) == b""


def resumed(broker: BrokerProcess, badge: Badge, session: ssl.SSLSession | None) -> bytes:
    """Return what a CONNECT on a resumed TLS session is answered with."""
    bare = socket.create_connection(("127.0.0.1", broker.port))
    try:
        with bare, badge.context.wrap_socket(bare, server_hostname="localhost", session=session) as tls:
            tls.sendall(connect(f"{badge.name}-{SUFFIX}"))
            return tls.recv(4)
    except OSError:
        return b""


def test_a_certificate_that_ends_while_connected_opens_no_other_line(broker):
    ending = broker.pki.badge(fresh_id(), end=datetime.now(UTC) + timedelta(seconds=6))
    with broker.dial(ending) as line, broker.enter(broker.device()) as other:
        assert line.enter(f"{ending.name}-f3b1c7d9e5a24680")[0] == 0
        broker.until(lambda: is_turned_away(broker, ending.context, ending.name))
        # Mosquitto looks at certificates when a line opens, and then no more; the server looks at each message.
        assert line.is_quiet() if filters_at_delivery(broker) else line.is_closed()
        assert other.is_quiet()


@pytest.mark.parametrize("name", ["server", "view-1"])
def test_a_name_under_another_authority_is_for_the_authority_to_refuse(broker, name):
    """Mosquitto knows one set of CAs; ours issue such names under one of them alone (authority, profiles)."""
    strange = broker.pki.badge(name, profiles.TRANSPORT, Unit.DEVICE)
    assert is_turned_away(broker, strange.context, name) is not filters_at_delivery(broker)


# Whose session it is


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_online", [True, False])
def test_who_does_not_know_the_suffix_cannot_touch_a_session(broker, clean, is_online):
    victim, thief = Victim(broker, "f3b1c7d9e5a24680"), broker.device()
    if not is_online:
        victim.line.send(DISCONNECT)
        assert victim.line.is_closed()
    for guess in (victim.badge.name, f"{victim.badge.name}-", f"{victim.badge.name}-{SUFFIX}", victim.badge.name[:5]):
        with contextlib.suppress(Closed), broker.dial(thief) as line:
            line.enter(guess, clean=clean)
            line.send(subscribe(down(victim.badge.name)))
    victim.server.publish(down(victim.badge.name), b"yours")
    line = victim.line if is_online else victim._enter("f3b1c7d9e5a24680")
    assert line.hear().payload == b"yours"


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_online", [True, False])
def test_who_knows_the_whole_client_id_still_reads_nothing(broker, clean, is_online):
    victim, thief = Victim(broker), broker.device()
    if not is_online:
        victim.line.send(DISCONNECT)
        assert victim.line.is_closed()
    victim.server.publish(down(victim.badge.name), b"queued")
    with broker.dial(thief) as line:
        answer, _ = line.enter(f"{victim.badge.name}-{SUFFIX}", clean=clean)
        if filters_at_delivery(broker):
            # It takes the session, and the message in it is lost to both; the outbox gives it again.
            assert (answer, line.is_quiet()) == (0, True)
            return
        assert answer == 2
    line = victim.line if is_online else victim._enter(SUFFIX)
    assert line.hear().payload == b"queued"


# What it may hear


def test_a_list_with_one_forbidden_member_gives_no_more_than_the_lawful_ones(broker):
    victim, spy = Victim(broker), broker.device()
    forbidden = [down(victim.badge.name), "#", "+/#", "fw/v1/#", ALL_UP, "fw/v1/d/+/down/+", "fw/v1/view/#", "$SYS/#"]
    with broker.enter(spy) as line:
        codes = line.subscribe(down(spy.name), *forbidden, "fw/v1/fleet/#")
        assert codes[0] == codes[-1] == 1
        assert set(codes[1:-1]) == ({1} if filters_at_delivery(broker) else {0x80})
        assert victim.is_well()
        victim.server.publish(down(spy.name), b"mine")
        assert line.hear().payload == b"mine"
        assert line.is_quiet()


def test_a_wrong_share_group_takes_nothing_from_the_workers(broker):
    group = "$share/4cb2f0a1d3/" if filters_at_delivery(broker) else ""
    spy, sender = broker.device(), broker.device()
    with broker.server(f"{group}{ALL_UP}") as worker, broker.enter(spy) as line, broker.enter(sender) as device:
        for guess in ("workers", "server", "ingest", "4cb2f0a1d"):
            granted = line.subscribe(f"$share/{guess}/{ALL_UP}")
            assert granted == ([1] if filters_at_delivery(broker) else [0x80])
        for number in range(100):
            device.publish(up(sender.name), b"%d" % number)
        assert [worker.hear().payload for _ in range(100)] == [b"%d" % number for number in range(100)]
        assert line.is_quiet()


def test_what_is_retained_for_one_is_shown_to_no_other(broker):
    victim, spy = Victim(broker), broker.device()
    victim.server.publish(down(victim.badge.name, "assignment"), b"kept", retain=True)
    with broker.enter(spy) as line:
        line.subscribe(down(victim.badge.name, "assignment"), "#")
        assert line.is_quiet()
    assert victim.line.subscribe(down(victim.badge.name, "assignment")) == [1]
    assert victim.line.hear().payload == b"kept"
    victim.server.publish(down(victim.badge.name, "assignment"), b"", retain=True)


def test_the_brokers_own_topics_are_mute_and_deaf(broker):
    victim, spy = Victim(broker), broker.device()
    order = b'{"commands":[{"command":"createClient","username":"%s"}]}' % victim.badge.name.encode()
    kept = (broker.folder / ADMIN).read_bytes() if filters_at_delivery(broker) else b""
    with broker.enter(spy) as line:
        line.subscribe("$SYS/#", "$CONTROL/#", f"{ADMIN_TOPIC}/response")
        line.send(publish(ADMIN_TOPIC, order))
        if filters_at_delivery(broker):
            assert line.is_quiet()
            assert (broker.folder / ADMIN).read_bytes() == kept
        else:
            assert line.is_closed()
    assert victim.is_well()


# What it may say


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("where", ["another's up", "another's down", "own down", "fleet", "view", "elsewhere"])
def test_a_word_on_a_foreign_topic_reaches_nobody_and_is_not_kept(broker, where, retain):
    victim, liar = Victim(broker), broker.device()
    topic = {
        "another's up": up(victim.badge.name),
        "another's down": down(victim.badge.name),
        "own down": down(liar.name, "assignment"),
        "fleet": "fw/v1/fleet/beacon",
        "view": "fw/v1/view/summary",
        "elsewhere": "fw/v2/anything",
    }[where]
    with broker.server("fw/v1/#") as server, broker.enter(liar) as line:
        line.publish(up(liar.name), b"lawful")
        assert server.hear().payload == b"lawful"
        line.send(publish(topic, b"forged", retain=retain))
        assert line.is_quiet() if filters_at_delivery(broker) else line.is_closed()
        assert server.is_quiet()
    with broker.server("fw/v1/#") as later:
        assert later.is_quiet()
    assert victim.is_well()


def test_what_a_device_retains_under_its_own_up_is_for_the_server_alone(broker):
    device, spy = broker.device(), broker.device()
    with broker.enter(device) as line, broker.enter(spy) as other:
        line.send(publish(up(device.name), b"kept", retain=True))
        assert line.is_quiet() if filters_at_delivery(broker) else line.is_closed()
        other.subscribe("#", up(device.name))
        assert other.is_quiet()
    with broker.server(up(device.name)) as later:
        if filters_at_delivery(broker):
            assert later.hear().payload == b"kept"
            later.publish(up(device.name), b"", retain=True)
            later.hear()
        assert later.is_quiet()


@pytest.mark.parametrize("retain", [False, True])
def test_a_will_on_a_foreign_topic_is_never_said(broker, retain):
    liar, honest = broker.device(), broker.device()
    with broker.server("fw/v1/#") as server:
        with contextlib.suppress(Closed), broker.dial(liar) as line:
            will = WillOf("fw/v1/fleet/beacon", b"forged", retain=retain)
            answer, _ = line.enter(f"{liar.name}-{SUFFIX}", will=will)
            assert answer == (0 if filters_at_delivery(broker) else 5)
        with broker.enter(honest, will=WillOf(up(honest.name, "status"), b"lawful")):
            pass
        assert server.hear().payload == b"lawful"
        assert server.is_quiet()


# What it may cost


def test_ten_thousand_mutated_packets_harm_nobody(broker, told):
    victim, chance, badge = Victim(broker), Random(SEED), broker.device()
    for number in range(LINES):
        if number % 200 == 0:
            assert victim.is_well()
        with contextlib.suppress(OSError), RawClient(broker.port, badge.context) as line:
            lawful = connect(f"{badge.name}-{SUFFIX}") * chance.choice((0, 1, 1))
            line.send(lawful, *(mutated(chance, badge.name) for _ in range(PER_LINE)))
            line.socket.shutdown(socket.SHUT_WR)
            line.is_closed()
    assert victim.is_well()
    assert not is_turned_away(broker, badge.context, badge.name)


@pytest.mark.parametrize("is_connected", [True, False])
def test_200_mib_announced_are_neither_waited_for_nor_held(broker, told, is_connected):
    victim, badge, before, sent = Victim(broker), broker.device(), memory(broker), 0
    line = broker.enter(badge) if is_connected else broker.dial(badge)
    head = packet(0x32, b"")[:1] + b"\x80\x80\x80\x64" + text(up(badge.name)) + struct.pack("!H", 1)
    with contextlib.suppress(OSError):
        line.send(head)
        while sent < 200 * MIB:
            line.send(b"x" * 65536)
            sent += 65536
    assert sent < 20 * MIB
    assert memory(broker) - before < 20 * MIB
    assert victim.is_well()


def test_a_thousand_lines_without_connect_cost_little_and_keep_nobody_out(broker, told):
    victim, badge, before = Victim(broker), broker.device(), memory(broker)
    silent = [broker.dial(badge) for _ in range(1000)]
    assert victim.is_well()
    assert not is_turned_away(broker, badge.context, badge.name)
    assert memory(broker) - before < 150 * MIB
    if not filters_at_delivery(broker):
        # Mosquitto waits for them for ever; max_connections is its bound.
        assert all(line.is_closed() for line in silent)
        assert victim.is_well()


def test_twenty_thousand_messages_for_one_who_does_not_read_delay_nobody(broker, told):
    victim, slow, before = Victim(broker), broker.device(), memory(broker)
    line = broker.enter(slow, clean=False)
    assert line.subscribe(down(slow.name)) == [1]
    for _ in range(40):
        victim.server.send(*(publish(down(slow.name), b"m" * 1000, mid=mid) for mid in range(1, 501)))
        for _ in range(500):
            victim.server.expect(PUBACK)
    assert victim.is_well()
    assert memory(broker) - before < 100 * MIB
    for _ in range(20_000 if filters_at_delivery(broker) else 1000):
        line.hear()
    assert line.is_quiet()


def test_a_dead_keep_alive_ends_its_line_and_its_will_is_said(broker):
    dead, alive = broker.device(), broker.device()
    with broker.server("fw/v1/d/+/up/status") as server, broker.enter(alive) as other:
        with broker.enter(dead, keep_alive=1, will=WillOf(up(dead.name, "status"), b"gone")):
            assert server.hear().payload == b"gone"
        assert other.is_quiet()
