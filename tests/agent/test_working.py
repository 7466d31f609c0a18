"""A device at work: presence, reports, outages, time; nothing is lost and nothing is said too early."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_agent.instant import Instant
from fleetward_agent.reports import add_report
from fleetward_agent.telemetry import READINGS_PER_REPORT
from fleetward_agent.turn import AddReport, Say
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.clock import TimeQuestion
from fleetward_schemas.enrol import Settings
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.ids import next_id
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.presence import Status, StatusReason
from fleetward_schemas.receipts import Alert, AlertCode
from fleetward_schemas.telemetry import Reading, Telemetry
from tests.agent.orders import kinds, online, order, readings
from tests.world import Stage


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


def hoard(stage: Stage, number: int) -> None:
    """Let reports of one reading wait, made in this order."""
    body = Telemetry(readings=[Reading(observedAt=show(stage.clock.now), uncertaintyMs=1, metrics={"uptimeS": 1})])
    made = (next_id(stage.clock.now + timedelta(milliseconds=one), None, bytes(10)) for one in range(number))
    now_ms = to_ms(stage.clock.now)
    stage.parts.outbox.commit([AddReport(one, "telemetry", body.json(), 3, now_ms) for one in made])


def test_a_server_that_takes_nothing_gets_four_reports_and_no_more(working: Stage) -> None:
    working.server.silent.add("telemetry")
    working.server.heard.clear()
    working.pass_s(30 * 40)

    assert len({h.opened.id for h in working.server.said("telemetry")}) == 4
    assert len(working.device.session.flight) == 4


def test_what_waited_comes_as_fast_as_it_is_taken_sixteen_at_most(working: Stage) -> None:
    hoard(working, 100)
    working.until(lambda: working.device.session.flight, 60)
    flying = [len(working.device.session.flight)]
    while working.parts.outbox.depth:
        working.turn()
        flying.append(len(working.device.session.flight))

    assert flying[0] <= 6
    assert max(flying) == 16
    assert len(flying) < 40


def test_a_server_that_says_too_often_is_left_in_peace(working: Stage) -> None:
    hoard(working, 200)
    working.until(lambda: working.device.session.pace == 16, 60)
    working.server.refuse_reports = "too-often"
    working.until(lambda: working.server.said("telemetry")[-1].opened.id not in working.server.reports)
    waiting = working.parts.outbox.depth
    working.turn()
    assert working.device.session.pace == 4
    assert waiting == working.parts.outbox.depth > 0

    working.server.refuse_reports = None
    working.until(lambda: working.parts.outbox.depth == 0, 300)


def test_the_newest_comes_first_and_what_is_urgent_before_it(working: Stage) -> None:
    working.link.cut()
    hoard(working, 10)
    working.server.heard.clear()
    working.until(lambda: working.parts.outbox.depth == 0)
    hoarded = [h.opened.id for h in working.server.said("telemetry")]

    assert hoarded == sorted(hoarded, reverse=True)
    hoard(working, 40)
    working.server.heard.clear()
    order(working, "collect-info")
    working.until(lambda: working.parts.outbox.depth == 0)
    said = kinds(working)
    assert max(i for i, kind in enumerate(said) if kind in {"info", "result"}) < 20


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
    working.until(lambda: online(working), 500)  # A question is put again after 450 s at the latest.


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


def test_shutting_down_says_offline_and_disconnects(working: Stage) -> None:
    working.host.shut()
    working.turn()
    working.server.serve()

    last = working.server.heard[-1].body
    assert isinstance(last, Status)
    assert (last.state, last.reason) == ("offline", StatusReason.SHUTDOWN)
    assert (working.host.closed, working.link.lines, working.link.wills) == (True, {}, [])


def test_every_report_names_the_certificate_it_is_signed_with(working: Stage) -> None:
    assert working.server.device_leaf is not None
    expected = thumbprint(working.server.device_leaf)

    assert {h.opened.header.x5t for h in working.server.said("telemetry")} == {expected}


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


def test_what_belongs_to_another_door_is_not_said(working: Stage) -> None:
    working.device._session = replace(working.device.session, stage=At.ENROL)
    working.device._say(
        Say("time", "00000000-0000-7000-8000-000000000000", TimeQuestion(nonce="A" * 43)), working.host._world.instant()
    )

    assert not working.link.published


@pytest.mark.parametrize(("count", "lawful"), [(1, True), (0, False), (True, False)])
def test_no_report_waits_that_the_server_would_refuse(working: Stage, count: int, lawful: bool) -> None:
    session, at = working.device.session, Instant(working.clock.boot_us, bytes(32))
    moment = show(working.clock.now)
    body = Alert(code=AlertCode.STALE, count=count, first=moment, last=moment)
    if lawful:
        assert [type(change) for change in add_report(session, at, "alert", body).changes] == [AddReport]
        return
    with pytest.raises(LocalMistake, match="Alert count: expected int"):
        add_report(session, at, "alert", body)
