"""The whole walk in an in-memory world: from first contact to work, through losses, crashes and refusals."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_agent.telemetry import READINGS_PER_REPORT
from fleetward_agent.turn import Say
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.clock import TimeQuestion
from fleetward_schemas.commands import Command, Result, ResultState
from fleetward_schemas.enrol import Enrol, Enrolled, Hello, Settings
from fleetward_schemas.identity import Certification, Environment, read_identity
from fleetward_schemas.presence import Status, StatusReason
from fleetward_schemas.receipts import Ack
from fleetward_schemas.telemetry import Telemetry
from tests.world import Heard, Provider, Stage


def online(stage: Stage) -> bool:
    return stage.device.stage is At.WORKING


def kinds(stage: Stage) -> list[str]:
    return [heard.opened.kind.name for heard in stage.server.heard]


def order(stage: Stage, verb: str, minutes: int = 10, **params: object) -> Command:
    command = Command(commandId=stage.server.draft(stage.id, "ack", _ACK).id, command=verb, params=params)
    stage.server.say(stage.id, command, expires=stage.clock.now + timedelta(minutes=minutes))
    return command


def results(stage: Stage, command: Command) -> list[ResultState]:
    bodies = [heard.body for heard in stage.server.said("result")]
    return [body.state for body in bodies if isinstance(body, Result) and body.commandId == command.commandId]


def readings(heard: list[Heard]) -> list[str]:
    return [one.observedAt for h in heard if isinstance(h.body, Telemetry) for one in h.body.readings]


_ACK = Ack(ids=[])


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
    assert own.subscriptions == ((f"fw/v1/d/{working.id}/down/#", 1), ("fw/v1/fleet/#", 1))


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
    now = held.model_copy(update={"retryAfterS": 1})
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


def test_online_is_above_its_will_and_names_its_session(working: Stage) -> None:
    dial = working.link.dials[-1]
    assert dial.will is not None
    working.link.published.append((dial.will.topic, dial.will.payload))
    working.server.serve()
    birth, will = working.server.said("status")

    assert isinstance(birth.body, Status)
    assert isinstance(will.body, Status)
    assert (birth.body.session, birth.body.state, will.body.state) == (will.body.session, "online", "offline")
    assert birth.opened.members.seq > will.opened.members.seq


def test_each_connection_has_a_name_of_its_own(working: Stage) -> None:
    working.link.cut()
    working.until(lambda: len(working.server.said("status")) == 2)
    first, second = (h.body for h in working.server.said("status"))

    assert isinstance(first, Status)
    assert isinstance(second, Status)
    assert first.session != second.session
    assert (first.reason, second.reason) == (StatusReason.STARTED, StatusReason.RECONNECTED)


def test_nothing_is_reported_before_online_is_acknowledged(stage: Stage) -> None:
    stage.server.silent.add("status")
    stage.until(lambda: stage.server.said("status"))
    stage.pass_s(100)
    assert not stage.server.said("telemetry")

    stage.server.silent.clear()
    stage.until(lambda: stage.server.said("telemetry"))


def test_no_reading_is_lost_over_a_long_outage(working: Stage) -> None:
    working.server.settings = Settings(telemetryS=30, timeS=600)
    working.link.cut(Loss.UNREACHABLE)
    working.link.refuse = Loss.UNREACHABLE
    working.pass_s(3600)
    before = len(readings(list(working.server.reports.values())))
    working.link.refuse = None
    working.until(lambda: online(working) and working.parts.outbox.depth == 0, 900)

    got = readings(list(working.server.reports.values()))
    assert len(got) - before >= 119
    assert len(set(got)) == len(got)
    assert len(working.server.reports) <= len(got) // READINGS_PER_REPORT + 12


def test_back_off_grows_to_five_minutes_and_ends_with_online(working: Stage) -> None:
    working.link.cut()
    working.link.refuse = Loss.UNREACHABLE
    working.pass_s(1800)
    tries = len(working.link.dials)
    working.link.refuse = None
    working.until(lambda: online(working), 400)

    assert 8 <= tries <= 60
    assert working.device.session.dials == 0


def test_unacknowledged_reports_are_sent_again_under_new_numbers(working: Stage) -> None:
    working.server.silent.add("telemetry")
    working.server.heard.clear()
    working.pass_s(100)
    first = working.server.said("telemetry")[0].opened.id
    same = [h.opened for h in working.server.said("telemetry") if h.opened.id == first]

    assert len(same) >= 2
    assert len({one.members.seq for one in same}) == len(same)
    assert working.parts.outbox.depth >= 3


def test_at_most_sixteen_reports_are_in_flight(working: Stage) -> None:
    working.server.silent.add("telemetry")
    working.server.heard.clear()
    working.pass_s(30 * 40)

    assert len({h.opened.id for h in working.server.said("telemetry")}) == 16
    assert len(working.device.session.flight) == 16


def test_a_report_refused_for_good_is_dropped_counted_and_told(working: Stage) -> None:
    working.server.refuse_reports = "bad-body"
    working.until(lambda: working.events("report-refused"))
    working.server.refuse_reports = None
    working.until(lambda: working.server.said("alert"))

    assert working.parts.outbox.counter("reportsRefused") >= 1
    assert working.server.said("alert")[0].opened.members.body["code"] == "report-refused"


def test_a_report_refused_for_now_is_sent_again(working: Stage) -> None:
    working.server.refuse_reports = "stale"
    working.server.heard.clear()
    working.until(lambda: working.server.said("telemetry"))
    refused = working.server.said("telemetry")[0].opened.id
    working.server.refuse_reports = None

    working.until(lambda: refused in working.server.reports, 120)


def test_collect_info_brings_signed_device_info(working: Stage) -> None:
    command = order(working, "collect-info")
    working.until(lambda: len(results(working, command)) == 2)

    assert results(working, command) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]
    assert len(working.server.said("info")) == 1


def test_sync_time_succeeds_on_an_answer_and_fails_without_one(working: Stage) -> None:
    good = order(working, "sync-time")
    working.until(lambda: len(results(working, good)) == 2)
    working.server.silent.add("time")
    bad = order(working, "sync-time")
    working.until(lambda: len(results(working, bad)) == 2, 60)

    assert results(working, good)[-1] is ResultState.SUCCEEDED
    assert results(working, bad)[-1] is ResultState.FAILED


@pytest.mark.parametrize(
    ("verb", "params", "reason"), [("capture", {}, "unknown-command"), ("collect-info", {"all": 1}, "bad-params")]
)
def test_a_command_that_cannot_be_obeyed_is_refused_with_its_reason(
    working: Stage, verb: str, params: dict[str, object], reason: str
) -> None:
    command = order(working, verb, **params)
    working.until(lambda: results(working, command))

    (result,) = [h.body for h in working.server.said("result")]
    assert isinstance(result, Result)
    assert (result.state, result.reason) == (ResultState.REFUSED, reason)


def test_a_command_sent_twice_is_done_once_and_answered_twice(working: Stage) -> None:
    command = order(working, "collect-info")
    working.until(lambda: len(results(working, command)) == 2)
    working.server.say(working.id, command, expires=working.clock.now + timedelta(minutes=1))
    working.until(lambda: len(results(working, command)) == 3)

    assert results(working, command)[-1] is ResultState.SUCCEEDED
    assert len(working.server.said("info")) == 1


def test_a_command_that_may_have_expired_is_not_begun(working: Stage) -> None:
    working.server.silent.add("time")
    blocking = order(working, "sync-time")
    late = Command(commandId=working.server.draft(working.id, "ack", _ACK).id, command="collect-info", params={})
    working.server.say(working.id, late, expires=working.clock.now + timedelta(seconds=20))
    working.until(lambda: len(results(working, late)) == 2, 60)

    assert results(working, late) == [ResultState.ACCEPTED, ResultState.EXPIRED]
    assert results(working, blocking)[-1] is ResultState.FAILED
    assert not working.server.said("info")


def test_a_command_accepted_before_a_crash_is_done_after_it(working: Stage) -> None:
    working.keys.broken = True
    command = order(working, "collect-info")
    working.turn()
    working.start()
    working.link.cut()
    working.keys.broken = False
    working.until(lambda: ResultState.SUCCEEDED in results(working, command), 60)

    assert len(working.server.said("info")) == 1


def test_the_time_is_asked_again_before_it_is_too_old(working: Stage) -> None:
    working.server.heard.clear()
    working.pass_s(1900)

    assert len(working.server.said("time")) == 3


def test_a_width_beyond_twenty_seconds_silences_all_but_time(working: Stage) -> None:
    working.server.silent.add("time")
    working.pass_s(14 * 3600)
    working.server.heard.clear()
    working.pass_s(600)
    assert set(kinds(working)) == {"time"}
    assert working.link.dials[-1].client_id.startswith(f"{working.id}-")
    assert working.link.dials[-1].client_id != working.link.dials[2].client_id
    assert working.link.dials[-1].subscriptions == ((f"fw/v1/d/{working.id}/down/time", 1),)

    working.server.silent.clear()
    working.until(lambda: online(working), 400)


def test_a_reboot_keeps_only_the_floor_and_asks_first(working: Stage) -> None:
    working.link.cut()
    working.boot_id, working.clock.boot_us = "boot-2", 1_000_000
    working.server.heard.clear()
    working.start()
    working.until(lambda: online(working), 60)

    assert kinds(working)[:2] == ["time", "status"]


def test_a_restart_within_a_boot_needs_no_question_before_the_door(working: Stage) -> None:
    working.link.cut()
    working.start()
    dials = len(working.link.dials)
    working.until(lambda: online(working), 60)

    assert [dial.clean for dial in working.link.dials[dials:]] == [False]


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


def test_shutting_down_says_offline_and_disconnects(working: Stage) -> None:
    working.host.shut()
    working.turn()
    working.server.serve()

    last = working.server.heard[-1].body
    assert isinstance(last, Status)
    assert (last.state, last.reason) == ("offline", StatusReason.SHUTDOWN)
    assert (working.host.closed, working.link.lines, working.link.wills) == (True, {}, [])


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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(troubles=st.lists(st.sampled_from(["cut", "crash", "deaf", "hear", "order", "wait"]), min_size=3, max_size=14))
def test_whatever_breaks_every_command_gets_one_final_answer(provider: Provider, troubles: list[str]) -> None:
    stage = Stage(provider)
    stage.until(lambda: online(stage), 60)
    commands = [_trouble(stage, trouble) for trouble in troubles]
    stage.link.deaf = False
    given_orders = [command for command in commands if command is not None]
    stage.until(lambda: online(stage) and stage.parts.outbox.depth == 0 and not stage.device.session.jobs, 3600)

    for command in given_orders:
        finals = set(results(stage, command)) - {ResultState.ACCEPTED}
        assert len(finals) <= 1
        assert stage.parts.outbox.command(command.commandId) is None or len(finals) == 1


def _trouble(stage: Stage, trouble: str) -> Command | None:
    match trouble:
        case "cut":
            stage.link.cut()
        case "crash":
            stage.link.cut()
            stage.start()
        case "deaf" | "hear":
            stage.link.deaf = trouble == "deaf"
        case "order":
            return order(stage, "collect-info")
        case _:
            stage.pass_s(40)
    stage.turn()
    return None


def test_every_report_names_the_certificate_it_is_signed_with(working: Stage) -> None:
    assert working.server.device_leaf is not None
    expected = thumbprint(working.server.device_leaf)

    assert {h.opened.header.x5t for h in working.server.said("telemetry")} == {expected}


def test_an_l0_device_signs_its_digital_id_with_its_device_key(provider: Provider) -> None:
    stage = Stage(provider, Certification.L0)
    stage.until(lambda: online(stage), 60)

    assert read_identity(stage.device.session.digital_id or "").leaf == stage.server.device_leaf


def test_after_a_reconnect_all_that_waits_is_sent_at_once(working: Stage) -> None:
    working.server.silent.add("telemetry")
    working.until(lambda: len(working.device.session.flight) == 3, 200)
    waiting = set(working.device.session.flight)
    working.link.cut()
    working.until(lambda: not online(working), 5)
    working.server.heard.clear()
    working.until(lambda: online(working), 60)
    working.pass_s(2)

    assert {h.opened.id for h in working.server.said("telemetry")} >= waiting


def test_two_orders_to_sync_ask_a_second_apart(working: Stage) -> None:
    working.server.heard.clear()
    commands = [order(working, "sync-time") for _ in range(3)]
    working.until(lambda: all(len(results(working, command)) == 2 for command in commands))

    times = [h.opened.at for h in working.server.said("time")]
    assert len(times) == 3
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(times))


def test_what_belongs_to_another_door_is_not_said(working: Stage) -> None:
    working.device._session = replace(working.device.session, stage=At.ENROL)
    working.device._say(
        Say("time", "00000000-0000-7000-8000-000000000000", TimeQuestion(nonce="A" * 43)), working.host._world.instant()
    )

    assert not working.link.published
