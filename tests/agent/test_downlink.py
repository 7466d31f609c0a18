"""Hostile downlink: each message refused by exactly its code, each the twin of one that is taken.

The broker is the attacker here: it may deliver anything, to anybody, twice, late, and under any topic.
"""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_agent import desk
from fleetward_agent.origin import Credential
from fleetward_agent.turn import Known
from fleetward_agent.walk import Stage as At
from fleetward_broker import profiles
from fleetward_broker.signers import make_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.errors import Code
from fleetward_schemas.jws import Alg
from fleetward_schemas.moment import to_ms
from fleetward_schemas.receipts import Ack
from fleetward_schemas.strict import b64url, b64url_decode
from fleetward_schemas.topics import down
from tests.agent.forging import code_of, leaf, order, rewritten, sealed
from tests.world import START, Provider, Stage


def test_a_genuine_command_is_taken(working: Stage) -> None:
    assert code_of(working, sealed(working)) is None
    working.until(lambda: len(working.server.said("result")) == 2)


def test_a_forged_signature_is_refused(working: Stage) -> None:
    forged = rewritten(working, sealed(working), lambda text: text.replace("collect-info", "collect-Info"))

    assert code_of(working, forged) == Code.BAD_SIGNATURE


def test_another_providers_server_is_the_wrong_server(working: Stage, other_provider: Provider) -> None:
    assert code_of(working, sealed(working, signer=other_provider.server_signer())) == Code.WRONG_SERVER


@pytest.mark.parametrize(
    ("name", "unit", "profile"),
    [
        ("sign-{}", Unit.DEVICE, profiles.DEVICE),
        ("sign-server", Unit.DEVICE, profiles.SERVER_SIGNER),
        ("sign-server", Unit.FACTORY, profiles.SERVER_SIGNER),
        ("sign-server", Unit.SERVICE, profiles.SERVICE_CLIENT),
        ("server", Unit.SERVICE, profiles.SERVER_SIGNER),
    ],
)
def test_only_the_servers_own_role_signs_for_it(
    working: Stage, name: str, unit: Unit, profile: profiles.Profile
) -> None:
    signer = leaf(working, name.format(working.id), unit, profile)

    assert code_of(working, sealed(working, signer=signer)) == Code.WRONG_SERVER


def test_a_second_genuine_worker_is_the_server_too(working: Stage) -> None:
    signer = leaf(working, "sign-server", Unit.SERVICE, profiles.SERVER_SIGNER)

    assert code_of(working, sealed(working, signer=signer)) is None


def test_a_key_without_its_certificate_is_refused(working: Stage) -> None:
    stolen = Credential(make_key(Alg.EDDSA), working.server.signer.chain)

    assert code_of(working, sealed(working, signer=stolen)) == Code.BAD_SIGNATURE


def test_a_signing_certificate_of_weeks_ago_is_the_wrong_server(working: Stage) -> None:
    old = working.provider.server_signer(START - timedelta(days=9))

    assert code_of(working, sealed(working, signer=old)) == Code.WRONG_SERVER


def test_a_signing_certificate_over_seven_days_older_than_the_newest_is_refused(working: Stage) -> None:
    key = make_key(Alg.EDDSA)
    start, end = START - timedelta(days=8), START + timedelta(days=2)
    made = working.provider.leaf(profiles.SERVER_SIGNER, "sign-server", key.public_key(), Unit.SERVICE, start, end)
    # It is valid today only because its authority was careless with its life.
    assert code_of(working, sealed(working, signer=Credential(key, made))) == Code.WRONG_SERVER


def test_the_same_message_again_changes_nothing_and_is_no_alarm(working: Stage) -> None:
    raw = sealed(working)

    assert [code_of(working, raw), code_of(working, raw)] == [None, None]
    working.until(lambda: len(working.server.said("result")) == 3)
    assert len(working.server.said("info")) == 1


def test_a_number_below_the_window_is_replayed(working: Stage) -> None:
    code_of(working, sealed(working))
    old = order(working, seq=to_ms(working.clock.now) - 5000)

    assert code_of(working, sealed(working, old)) == Code.REPLAYED


def test_a_late_number_inside_the_window_is_taken(working: Stage) -> None:
    newer = order(working)
    older = order(working, seq=newer.seq - 100)

    assert code_of(working, sealed(working, newer)) is None
    assert code_of(working, sealed(working, older)) is None


def test_a_replay_is_remembered_through_a_restart(working: Stage) -> None:
    raw = sealed(working)
    code_of(working, raw)
    working.until(lambda: len(working.server.said("result")) == 2)
    working.start()
    working.link.cut()
    working.until(lambda: working.device.stage is At.WORKING)

    assert code_of(working, raw) is None
    working.until(lambda: len(working.server.said("result")) == 3)
    assert len(working.server.said("info")) == 1


@pytest.mark.parametrize(
    ("late_s", "code"), [(8 * 86400, Code.STALE), (-40, Code.STALE), (6 * 86400, None), (-20, None)]
)
def test_a_command_is_as_old_as_a_week_and_hardly_ahead(working: Stage, late_s: float, code: Code | None) -> None:
    assert code_of(working, sealed(working, late_s=late_s)) == code


def test_an_expired_command_is_stale(working: Stage) -> None:
    expired = replace(order(working), expires=working.clock.now - timedelta(seconds=1))

    assert code_of(working, sealed(working, expired)) == Code.STALE
    assert not working.server.said("result")


def test_a_message_moved_to_another_topic_is_refused(working: Stage) -> None:
    ack = working.server.draft(working.id, "ack", Ack(ids=[]))

    assert code_of(working, sealed(working, ack), down(working.id, "command")) == Code.WRONG_TOPIC
    assert code_of(working, sealed(working, replace(ack, seq=ack.seq + 1)), down(working.id, "ack")) is None


def test_a_message_to_another_device_is_refused(working: Stage, provider: Provider) -> None:
    other = provider.origin("SN-2").device_id
    draft = replace(order(working), topic=down(other, "command"))
    line = next(iter(working.link.lines))

    working.link._deliver(line, draft.topic, sealed(working, draft))
    working.turn()

    assert working.events("refused")[-1]["code"] == Code.WRONG_TOPIC


def test_another_devices_digital_id_is_refused(working: Stage, provider: Provider) -> None:
    other = provider.origin("SN-2").first_identity(working.clock.now)

    assert code_of(working, sealed(working, order(working, digital_id=other))) == Code.BAD_DIGITAL_ID


def test_an_older_digital_id_of_our_own_is_refused(working: Stage) -> None:
    older = working.origin.first_identity(working.clock.now - timedelta(days=1))

    assert code_of(working, sealed(working, order(working, digital_id=older))) == Code.BAD_DIGITAL_ID


def test_a_member_that_stands_twice_is_malformed(working: Stage) -> None:
    twice = rewritten(
        working, sealed(working), lambda text: text.replace('"seq":', '"seq":1,"seq":'), working.server.signer
    )

    assert code_of(working, twice) == Code.MALFORMED


def test_a_member_of_tomorrow_is_ignored(working: Stage) -> None:
    newer = rewritten(
        working, sealed(working), lambda text: text.replace('"seq":', '"mood":"good","seq":'), working.server.signer
    )

    assert code_of(working, newer) is None


def test_a_body_of_another_shape_is_refused(working: Stage) -> None:
    bad = rewritten(
        working, sealed(working), lambda text: text.replace('"params":{}', '"params":[]'), working.server.signer
    )

    assert code_of(working, bad) == Code.BAD_BODY


@pytest.mark.parametrize("raw", [b"x", b"a.b.c", b"{}", b"\xff" * 100], ids=["letter", "segments", "json", "bytes"])
def test_noise_is_malformed(working: Stage, raw: bytes) -> None:
    assert code_of(working, raw) == Code.MALFORMED


def test_a_message_over_48_kib_is_too_large(working: Stage) -> None:
    assert code_of(working, b"a" * 49 * 1024) == Code.TOO_LARGE


def test_an_empty_payload_means_cleared_and_is_ignored(working: Stage) -> None:
    assert code_of(working, b"") is None


@pytest.mark.parametrize(("name", "alg"), [("none", "none"), ("hmac", "HS256"), ("ecdsa", "ES256")])
def test_other_algorithms_are_refused(working: Stage, name: str, alg: str) -> None:
    header, payload, signature = sealed(working).split(b".")
    members = json.loads(b64url_decode(header))
    changed = b64url(json.dumps(members | {"alg": alg}).encode()).encode()

    assert code_of(working, b".".join((changed, payload, signature))) == Code.BAD_ALG


def test_a_kind_of_tomorrow_is_unknown(working: Stage) -> None:
    topic = down(working.id, "checkpoint")
    moved = rewritten(
        working,
        sealed(working),
        lambda text: text.replace('/down/command"', '/down/checkpoint"').replace(
            '"kind":"command"', '"kind":"checkpoint"'
        ),
        working.server.signer,
    )

    assert code_of(working, moved, topic) == Code.UNKNOWN_KIND


def test_every_refused_message_is_acknowledged_to_the_broker(working: Stage) -> None:
    code_of(working, b"noise")
    working.turn()

    assert all(not line.unacked for line in working.link.lines.values())


def test_refusals_are_told_once_a_minute_per_code(working: Stage) -> None:
    for _ in range(50):
        code_of(working, b"noise")
    working.pass_s(70)
    alerts = [h.opened.members.body for h in working.server.said("alert")]

    assert [(body["code"], body["count"]) for body in alerts] == [("malformed", 1), ("malformed", 49)]


def test_an_old_leaf_is_the_wrong_server_before_its_signature_is_looked_at(working: Stage) -> None:
    key = make_key(Alg.EDDSA)
    start, end = START - timedelta(days=8), START + timedelta(days=2)
    made = working.provider.leaf(profiles.SERVER_SIGNER, "sign-server", key.public_key(), Unit.SERVICE, start, end)

    assert code_of(working, sealed(working, signer=Credential(make_key(Alg.EDDSA), made))) == Code.WRONG_SERVER


def test_a_chain_that_was_good_is_judged_again_at_every_use(working: Stage) -> None:
    key = make_key(Alg.EDDSA)
    start, end = START - timedelta(hours=1), START + timedelta(minutes=10)
    made = working.provider.leaf(profiles.SERVER_SIGNER, "sign-server", key.public_key(), Unit.SERVICE, start, end)
    short = Credential(key, made)
    assert code_of(working, sealed(working, signer=short)) is None

    working.pass_s(15 * 60)
    assert code_of(working, sealed(working, signer=short)) == Code.WRONG_SERVER


def test_a_number_below_the_window_is_replayed_after_a_restart_too(working: Stage) -> None:
    code_of(working, sealed(working))
    old = sealed(working, order(working, seq=to_ms(working.clock.now) - 5000))
    working.start()
    working.link.cut()
    working.until(lambda: working.device.stage is At.WORKING)

    assert code_of(working, old) == Code.REPLAYED


def test_a_duplicate_is_known_as_one_whatever_its_kind(working: Stage) -> None:
    raw = sealed(working, working.server.draft(working.id, "ack", Ack(ids=[])))
    topic, at = down(working.id, "ack"), working.host._world.instant()
    code_of(working, raw, topic)
    opened, chain = desk.open_message(working.device.session, raw, topic, working.device._chains, at)

    assert desk.take(working.device.session, opened, chain).duplicate
    assert (
        desk.handle(desk.take(working.device.session, opened, chain), Known(), working.device.session, at).changes == ()
    )
