"""Time, beacons and enrolment answers: each lie refused by its code, each the twin of a truth that is taken."""

from datetime import timedelta

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_broker import profiles
from fleetward_schemas.certificates import Unit, public_key, read_certificate
from fleetward_schemas.enrol import Challenge, Enrolled
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import Environment, sign_identity
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64_der, b64url, show_der
from fleetward_schemas.topics import down
from tests.agent.forging import leaf
from tests.world import START, Provider, Stage


def test_a_beacon_raises_the_floor_and_a_forged_one_does_not(working: Stage, other_provider: Provider) -> None:
    before = working.device.session.clock.earliest_at(working.clock.boot_us)
    working.beacon(signer=other_provider.server_signer())
    working.turn()
    assert working.events("refused")[-1]["code"] == Code.WRONG_SERVER

    working.beacon(at=working.clock.now + timedelta(milliseconds=40))
    working.turn()
    assert working.device.session.clock.earliest_at(working.clock.boot_us) > before


def test_a_beacon_of_another_environment_is_the_wrong_server(working: Stage) -> None:
    identity = working.server.server_identity(env=Environment.PRODUCTION)
    working.beacon(digital_id=identity)
    working.turn()

    assert working.events("refused")[-1]["code"] == Code.WRONG_SERVER


def test_a_beacon_with_a_devices_identity_is_the_wrong_server(working: Stage) -> None:
    identity = sign_identity(working.origin.digital_id, working.server.signer.key, working.server.signer.chain[0])
    working.beacon(digital_id=identity)
    working.turn()

    assert working.events("refused")[-1]["code"] == Code.WRONG_SERVER


def test_a_beacon_twice_is_nothing(working: Stage) -> None:
    raw = working.beacon()
    working.turn()
    working.link.send("fw/v1/fleet/beacon", raw)
    working.turn()

    assert not working.events("refused")


def test_a_beacon_above_what_is_known_makes_the_device_ask(working: Stage) -> None:
    working.server.heard.clear()
    working.beacon(at=working.clock.now + timedelta(hours=2))
    working.turn()
    assert (working.device.stage, working.events("refused")) == (At.DEVICE_TIME, [])

    # Only an answer tells which of the two is wrong; until it comes nothing but time is said.
    working.until(lambda: working.device.stage is At.WORKING, 60)
    assert [h.opened.kind.name for h in working.server.heard][:2] == ["time", "status"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"nonce": b64url(bytes(32))}, Code.BAD_NONCE),
        ({"received": show(START - timedelta(seconds=30))}, Code.STALE),
        ({"sent": show(START + timedelta(days=8)), "received": show(START + timedelta(days=8))}, Code.WRONG_SERVER),
    ],
)
def test_a_first_time_answer_counts_once_and_for_its_nonce(
    stage: Stage, changes: dict[str, str], code: Code | None
) -> None:
    stage.server.silent.add("time")
    stage.until(lambda: stage.server.said("time"))
    nonce = stage.server.said("time")[-1].opened.members.body["nonce"]

    stage.server.tell_time(f"f-{stage.id}", **({"nonce": nonce} | changes))
    stage.turn()

    refused = stage.events("refused")
    assert [fields["code"] for fields in refused] == ([code] if code else [])
    assert stage.device.session.clock.synced(stage.clock.boot_us) is (code is None)


def test_before_the_time_is_known_nothing_else_is_looked_at(stage: Stage) -> None:
    stage.server.silent.add("time")
    stage.until(lambda: stage.server.said("time"))
    stage.link.send(down(f"f-{stage.id}", "enrolled"), b"anything")
    stage.turn()

    assert not stage.events("refused")
    assert next(iter(stage.link.lines.values())).unacked


def test_a_challenge_for_another_hello_is_refused(stage: Stage) -> None:
    stage.server.silent.add("hello")
    stage.until(lambda: stage.server.said("hello"))
    hello = stage.server.said("hello")[0].opened
    stage.server.silent.clear()
    wrong = stage.server.last_id
    body = Challenge(nonce=hello.members.body["nonce"], serverNonce=b64url(bytes(32)), settings=stage.server.settings)
    stage.server.say(f"f-{stage.id}", body, in_reply_to=wrong)
    stage.turn()
    assert stage.device.counts == {"connections": 2, "refused bad-nonce": 1}

    stage.server.say(f"f-{stage.id}", body, in_reply_to=hello.id)
    stage.turn()
    assert stage.device.stage is At.ENROL


@pytest.mark.parametrize("swap", ["keys", "names"])
def test_certificates_that_are_not_ours_are_refused(stage: Stage, swap: str) -> None:
    stage.server.silent.add("enrol")
    stage.until(lambda: stage.server.said("enrol"))
    enrol = stage.server.said("enrol")[0]
    principal = enrol.opened.address.principal
    assert principal is not None
    genuine = stage.server.certify(principal, enrol.body)  # type: ignore[arg-type]
    swapped = {"deviceChain": genuine.transportChain, "transportChain": genuine.deviceChain}
    foreign = leaf(stage, f"sign-{stage.id}", Unit.DEVICE, profiles.DEVICE)
    keys = {"deviceChain": [show_der(one) for one in foreign.chain]}
    wrong = genuine.changed(**(swapped if swap == "names" else keys))

    stage.server.say(f"f-{stage.id}", wrong, in_reply_to=enrol.opened.id)
    stage.turn()
    assert (stage.events("refused")[-1]["code"], stage.device.stage) == (Code.BAD_BODY, At.ENROL)

    stage.server.say(f"f-{stage.id}", genuine, in_reply_to=enrol.opened.id)
    stage.turn()
    assert stage.device.session.kept.pair is not None


def test_an_answer_to_nothing_that_was_asked_is_refused(stage: Stage) -> None:
    stage.server.silent.add("hello")
    stage.until(lambda: stage.server.said("hello"))
    held = Enrolled(status="pending", reason="not-listed", retryAfterS=600, env=stage.provider.env)

    stage.server.say(f"f-{stage.id}", held, in_reply_to=stage.server.last_id)
    stage.turn()
    assert (stage.events("refused")[-1]["code"], stage.events("enrolment-held")) == (Code.BAD_NONCE, [])

    stage.server.say(f"f-{stage.id}", held, in_reply_to=stage.server.said("hello")[0].opened.id)
    stage.turn()
    assert len(stage.events("enrolment-held")) == 1


@pytest.mark.parametrize("name", ["sign-{other}", "{own}", "sign-server"])
def test_a_certificate_over_our_key_in_another_name_is_refused(stage: Stage, name: str) -> None:
    stage.server.silent.add("enrol")
    stage.until(lambda: stage.server.said("enrol"))
    enrol = stage.server.said("enrol")[0]
    principal = enrol.opened.address.principal
    assert principal is not None
    genuine = stage.server.certify(principal, enrol.body)  # type: ignore[arg-type]
    assert genuine.deviceChain is not None
    key = public_key(read_certificate(b64_der(genuine.deviceChain[0])))
    cn = name.format(own=stage.id, other=stage.provider.origin("SN-2").device_id)
    made = stage.provider.leaf(profiles.DEVICE, cn, key, Unit.DEVICE, START - timedelta(hours=1))

    wrong = genuine.changed(deviceChain=[show_der(one) for one in made])
    stage.server.say(f"f-{stage.id}", wrong, in_reply_to=enrol.opened.id)
    stage.turn()
    assert (stage.events("refused")[-1]["code"], stage.device.session.kept.pair) == (Code.BAD_BODY, None)
