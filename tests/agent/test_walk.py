"""First contact in an in-memory world, and every way back to it."""

from datetime import timedelta
from itertools import pairwise

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.enrol import Enrol, Enrolled, Hello
from fleetward_schemas.identity import Certification, Environment, read_identity
from tests.agent.orders import kinds, online
from tests.world import Provider, Stage


def test_a_device_that_nobody_touched_enrols_and_reports(any_level: Stage) -> None:
    any_level.until(lambda: any_level.server.said("telemetry"), 60)

    assert kinds(any_level)[:5] == ["time", "hello", "enrol", "status", "telemetry"]
    assert any_level.device.stage is At.WORKING


def test_only_time_is_asked_before_the_time_is_known(stage: Stage) -> None:
    stage.server.silent.add("time")

    stage.pass_s(120)

    assert set(kinds(stage)) == {"time"}
    assert len({heard.opened.id for heard in stage.server.heard}) == len(stage.server.heard) > 3


def test_date_checks_are_off_only_for_the_first_line(working: Stage) -> None:
    first, strict, own = working.link.dials

    assert [dial.clean for dial in (first, strict, own)] == [True, True, False]
    assert [dial.will is None for dial in (first, strict, own)] == [True, True, False]
    assert first.client_id == strict.client_id
    assert strict.subscriptions == ((f"fw/v1/d/f-{working.id}/down/#", 1),)
    assert own.subscriptions == ((f"fw/v1/d/{working.id}/down/#", 1), ("fw/v1/fleet/+", 1))


def test_a_client_id_ends_in_32_secret_characters_kept_for_good(working: Stage) -> None:
    before = working.link.dials[-1].client_id
    working.start()
    working.link.cut()
    working.until(lambda: online(working) and len(working.link.dials) > 3)

    assert working.link.dials[-1].client_id == before
    assert len(before.rpartition("-")[2]) == 32


def test_the_digital_id_is_signed_anew_for_the_enrolment(any_level: Stage) -> None:
    any_level.until(lambda: online(any_level), 60)
    time, hello, _, status = (read_identity(h.opened.members.digitalId) for h in any_level.server.heard[:4])

    assert time.digital_id.dateTime < hello.digital_id.dateTime
    assert hello.leaf == any_level.origin.proof.chain[0]
    assert status.leaf == (any_level.origin.proof.chain[0] if any_level.origin.ftm else any_level.server.device_leaf)


def test_hello_and_enrol_are_repeated_unchanged_until_answered(stage: Stage) -> None:
    stage.server.silent.update({"hello", "enrol"})
    stage.until(lambda: len(stage.server.said("hello")) == 3)
    stage.server.silent.remove("hello")
    stage.until(lambda: len(stage.server.said("enrol")) == 3)
    stage.server.silent.clear()
    stage.until(lambda: online(stage))

    for kind in ("hello", "enrol"):
        assert len({(h.opened.id, str(h.body)) for h in stage.server.said(kind)}) == 1


def test_a_question_is_asked_at_most_once_a_second(stage: Stage) -> None:
    stage.server.silent.add("hello")
    stage.until(lambda: stage.server.said("hello"))
    for _ in range(5):
        stage.link.cut()
        stage.pass_s(0.4)

    times = [h.opened.at for h in stage.server.said("hello")]
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(times))


def test_a_pending_device_waits_and_enrols_once_it_is_approved(stage: Stage) -> None:
    held = Enrolled(status="pending", reason="not-listed", retryAfterS=300, env=stage.provider.env)
    stage.server.enrolled_as = lambda: held
    stage.until(lambda: stage.events("enrolment-held"))
    stage.pass_s(200)
    assert len(stage.server.said("hello")) == 1

    stage.server.enrolled_as = None
    hello = stage.server.said("hello")[0].opened
    now = held.changed(retryAfterS=1)
    stage.server.say(f"f-{stage.id}", now, in_reply_to=hello.id)
    stage.until(lambda: online(stage), 20)


@pytest.mark.parametrize("reason", ["retired", "revoked"])
def test_a_device_sent_away_asks_at_most_daily(stage: Stage, reason: str) -> None:
    gone = Enrolled(status="refused", reason=reason, retryAfterS=60, env=stage.provider.env)
    stage.server.enrolled_as = lambda: gone
    stage.until(lambda: stage.device.stage is At.RESTING, 60)
    stage.pass_s(23 * 3600)
    assert (len(stage.server.said("hello")), stage.link.lines) == (1, {})

    stage.until(lambda: len(stage.server.said("hello")) == 2, 2 * 3600)


def test_a_restart_does_not_shorten_the_day(stage: Stage) -> None:
    gone = Enrolled(status="refused", reason="revoked", retryAfterS=60, env=stage.provider.env)
    stage.server.enrolled_as = lambda: gone
    stage.until(lambda: stage.device.stage is At.RESTING, 60)
    stage.start()
    stage.pass_s(3600)

    assert (len(stage.server.said("hello")), stage.device.stage) == (1, At.RESTING)


def test_a_server_of_another_environment_enrols_nobody(stage: Stage) -> None:
    stage.server.provider = _other_env(stage.provider)
    stage.pass_s(60)

    assert stage.device.counts["refused wrong-server"] >= 1
    assert stage.device.session.kept.pair is None


def _other_env(provider: Provider) -> Provider:
    other = object.__new__(Provider)
    vars(other).update(vars(provider) | {"env": Environment.PRODUCTION})
    return other


def test_keys_the_fleet_knows_already_are_replaced(stage: Stage) -> None:
    refused = Enrolled(status="refused", reason="bad-csr", retryAfterS=5, env=stage.provider.env)
    stage.server.silent.add("enrol")
    stage.until(lambda: stage.server.said("enrol"))
    first = stage.server.said("enrol")[0]
    stage.server.say(f"f-{stage.id}", refused, in_reply_to=first.opened.id)
    stage.server.silent.clear()
    stage.until(lambda: online(stage), 60)

    bodies = [h.body for h in stage.server.said("enrol")]
    assert len({body.deviceCsr for body in bodies if isinstance(body, Enrol)}) == 2
    assert len(stage.keys.kept) == 2


def test_a_crash_in_the_middle_of_an_enrolment_goes_on_with_the_same_keys(stage: Stage) -> None:
    stage.server.silent.add("enrol")
    stage.until(lambda: stage.server.said("enrol"))
    stage.start()
    stage.link.cut()
    stage.server.silent.clear()
    stage.until(lambda: online(stage), 60)

    csrs = {body.deviceCsr for h in stage.server.said("enrol") if isinstance(body := h.body, Enrol)}
    hellos = {h.opened.id for h in stage.server.said("hello")}
    assert (len(stage.keys.kept), len(hellos), len(csrs), len(stage.server.chains)) == (2, 1, 1, 1)


def test_an_expired_certificate_leads_back_to_the_factory_door(working: Stage) -> None:
    working.link.cut()
    working.link.refuse = Loss.UNREACHABLE
    working.pass_s(9 * 3600)
    working.clock.now += timedelta(days=31)
    working.clock.boot_us += 31 * 86400 * 1_000_000
    working.server.signer = working.provider.server_signer(working.clock.now - timedelta(hours=1))
    working.link.refuse = None
    old = set(working.keys.kept)
    working.until(lambda: len(working.server.said("enrol")) == 2 and online(working), 900)

    hello = working.server.said("hello")[-1].body
    assert isinstance(hello, Hello)
    assert hello.current is not None
    assert not old & set(working.keys.kept)


def test_an_hour_of_refusals_leads_back_to_the_factory_door(working: Stage) -> None:
    working.link.cut(Loss.TLS_REFUSED)
    working.link.refuse = Loss.TLS_REFUSED
    working.pass_s(3500)
    assert not any(dial.client_id.startswith("f-") for dial in working.link.dials[3:])

    working.until(lambda: working.link.dials[-1].client_id.startswith("f-"), 1200)
    working.link.refuse = None
    working.until(lambda: online(working), 400)


def test_a_device_code_that_comes_late_is_kept(working: Stage) -> None:
    (chains,) = working.server.chains.values()
    late = Enrolled(
        status="registered",
        deviceChain=chains[0],
        transportChain=chains[1],
        deviceCode="DC-7",
        env=working.provider.env,
    )
    working.server.say(working.id, late)
    working.turn()

    assert working.device.session.kept.device_code == "DC-7"


def test_an_l0_device_signs_its_digital_id_with_its_device_key(provider: Provider) -> None:
    stage = Stage(provider, Certification.L0)
    stage.until(lambda: online(stage), 60)

    assert read_identity(stage.device.session.digital_id or "").leaf == stage.server.device_leaf
