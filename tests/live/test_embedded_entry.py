"""Who gets in at the embedded broker, over real TLS, under which client id, and what his session keeps.

Every refusal has a twin that is let through, mostly in the same test.
"""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from fleetward_broker import profiles
from fleetward_broker.signers import key_pem, make_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg
from tests.live.brokerhouse import SUFFIX, Pki, down, fresh_id, is_turned_away, up
from tests.live.rawmqtt import DISCONNECT, WillOf

pytestmark = pytest.mark.live


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


def test_who_is_revoked_is_out_while_a_certificate_waits_for_its_key(broker):
    good, bad = broker.device(), broker.device()
    key = broker.pki.folder / "broker.key.pem"
    whole = key.read_bytes()
    with broker.enter(good) as stays, broker.enter(bad) as goes:
        key.write_bytes(key_pem(make_key(Alg.RS256)))
        broker.revoke(bad)
        assert goes.is_closed()
        assert stays.is_quiet()
    assert is_turned_away(broker, bad.context, bad.name)
    assert not is_turned_away(broker, good.context, good.name)
    key.write_bytes(whole)
    broker.reload()


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
    ending = broker.pki.badge(fresh_id(), end=datetime.now(UTC) + timedelta(seconds=6))
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
