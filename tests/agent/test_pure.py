"""Steps are pure functions: values in, a turn out. Three lines each."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_agent import clock, commands, desk, dialing, presence, receipts, telemetry
from fleetward_agent.due import due_us
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.inventory import describe
from fleetward_agent.outbox import Report
from fleetward_agent.ports import Sighting
from fleetward_agent.session import Ask, Flight, Job, Session, asked, new_id, put_ask
from fleetward_agent.turn import AddReport, GrowReport, ReadingTaken, SignInfo, TakeReading, Turn
from fleetward_agent.walk import DOORS, NEXT, QUESTIONS, Stage, Step, advance, may_advance
from fleetward_broker.line import Loss
from fleetward_schemas.commands import ResultState, Verb
from fleetward_schemas.errors import Code, LocalMistake
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import to_ms
from fleetward_schemas.receipts import AlertCode
from fleetward_schemas.telemetry import METRICS
from fleetward_schemas.topics import Direction, Role
from tests.world import Stage as World

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def session(working: World) -> Session:
    return working.device.session


@pytest.fixture
def at(working: World) -> Instant:
    return Instant(working.clock.boot_us, bytes(32))


def later(at: Instant, seconds: float) -> Instant:
    return Instant(at.after_s(seconds), bytes([1]) * 32)


def test_the_desk_has_a_handler_for_every_kind_sent_to_devices() -> None:
    sent = {kind.name for kind in KINDS.values() if kind.direction in {Direction.DOWN, Direction.FLEET}}

    assert set(desk.HANDLERS) == sent


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("step", list(Step))
def test_every_edge_of_the_walk_leads_on_and_every_other_is_a_mistake(stage: Stage, step: Step) -> None:
    if may_advance(stage, step):
        assert advance(stage, step) is NEXT[stage][step]
    else:
        with pytest.raises(LocalMistake):
            advance(stage, step)


def test_every_stage_has_its_door_and_its_questions() -> None:
    assert set(NEXT) == set(DOORS) == set(QUESTIONS) == set(Stage)


def test_date_checks_are_off_exactly_where_only_time_may_be_asked() -> None:
    loose = {stage for stage, door in DOORS.items() if door is not None and not door.strict}

    assert loose == {stage for stage in Stage if QUESTIONS[stage] == {"time"}} - {Stage.WORKING}


def test_nothing_but_time_is_asked_through_a_loose_door(session: Session) -> None:
    unsynced = replace(session, stage=Stage.DEVICE_TIME)

    with pytest.raises(LocalMistake):
        put_ask(unsynced, "status", Ask(ID, None, 0))


@given(seeds=st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=2, unique=True), label=st.text())
def test_two_turns_never_draw_the_same(seeds: list[bytes], label: str) -> None:
    first, second = (Instant(0, seed).draw(label) for seed in seeds)

    assert first != second
    assert 0 <= Instant(0, seeds[0]).chance(label) < 1


@pytest.mark.parametrize(("tries", "nominal_s"), [(0, 5), (1, 10), (5, 160), (6, 300), (60, 300)])
def test_a_question_comes_again_after_5_s_doubling_to_5_minutes_half_more_or_less(
    session: Session, tries: int, nominal_s: int
) -> None:
    for number in range(20):
        at = Instant(0, bytes([number]) * 32)
        wait_us = asked(session, "time", Ask(ID, None, 0, tries=tries), at).asks["time"].due_us
        assert nominal_s * 0.5 <= wait_us / SECOND_US <= nominal_s * 1.5


def test_ids_of_one_device_rise(session: Session, at: Instant) -> None:
    session, first = new_id(session, at, "a")
    session, second = new_id(session, at, "a")

    assert first < second


def test_a_reading_is_taken_once_per_period(session: Session, at: Instant) -> None:
    due = telemetry.step(replace(session, telemetry_us=at.boot_us), at)

    assert due.effects == (TakeReading(),)
    assert due.session.telemetry_us == at.after_s(session.kept.telemetry_s)
    assert telemetry.step(due.session, at).effects == ()


def test_missed_periods_are_not_made_up_for(session: Session, at: Instant) -> None:
    turn = telemetry.step(session, later(at, 3600))

    assert turn.session.telemetry_us >= at.after_s(3600)


def taken(**metrics: float) -> ReadingTaken:
    return ReadingTaken(Sighting(DeviceStatus.READY, metrics), {"hostLoad": 0.5, "password": 1}, 3, 4)


def test_only_lawful_metrics_are_told(session: Session, at: Instant) -> None:
    turn = telemetry.on_reading(taken(temperatureC=31.0, template=7, hostMemoryFreeBytes=-1), session, at)
    (report,) = turn.changes

    assert isinstance(report, AddReport)
    assert all(name in report.body for name in ("temperatureC", "hostLoad", "outboxDepth", "outboxDropped"))
    assert not any(name in report.body for name in ("template", "password", "hostMemoryFreeBytes"))


@given(st.dictionaries(st.sampled_from([*METRICS, "other"]), st.floats(allow_nan=False)))
def test_what_is_told_is_always_within_the_closed_list(metrics: dict[str, float]) -> None:
    for name, value in telemetry.lawful(metrics).items():
        assert METRICS[name][0] <= value <= METRICS[name][1]


def test_readings_share_a_report_until_it_is_sent(session: Session, at: Instant) -> None:
    first = telemetry.on_reading(taken(), replace(session, open_report=None), at)
    second = telemetry.on_reading(taken(), first.session, at)
    (grown,) = second.changes
    assert isinstance(grown, GrowReport)
    sent = receipts.send(second.session, at, [Report(grown.id, "telemetry", grown.body)], {})

    assert sent.session.open_report is None
    assert isinstance(telemetry.on_reading(taken(), sent.session, at).changes[0], AddReport)


def test_a_reading_without_a_known_time_is_not_taken(session: Session, at: Instant) -> None:
    unknown = replace(session.clock, latest_us=253402300799_000_000)

    assert telemetry.step(replace(session, clock=unknown, telemetry_us=0), at) == Turn(
        replace(session, clock=unknown, telemetry_us=0)
    )


def job(session: Session, at: Instant, verb: Verb = Verb.COLLECT_INFO, life_s: float = 60) -> Session:
    expires = to_ms(session.clock.now(at.boot_us) + timedelta(seconds=life_s))
    return replace(session, jobs=(Job(ID, verb, "{}", expires),))


def test_a_job_starts_once(session: Session, at: Instant) -> None:
    turn = commands.step(job(session, at), at)

    assert turn.effects == (SignInfo(ID),)
    assert commands.step(turn.session, at) == Turn(turn.session)


def test_a_job_that_may_have_expired_is_not_begun(session: Session, at: Instant) -> None:
    width_s = session.clock.width_at(at.boot_us) / SECOND_US
    turn = commands.step(job(session, at, life_s=width_s / 4), at)

    assert [change.state for change in turn.changes if hasattr(change, "state")] == [ResultState.EXPIRED]
    assert turn.session.jobs == ()


@pytest.mark.parametrize(("verb", "reason"), [(Verb.SYNC_TIME, "clock"), (Verb.COLLECT_INFO, "storage")])
def test_a_job_that_takes_too_long_has_failed(session: Session, at: Instant, verb: Verb, reason: str) -> None:
    started = commands.step(job(session, at, verb), at).session
    turn = commands.step(started, later(at, 31))

    assert [(c.state, c.reason) for c in turn.changes if hasattr(c, "state")] == [(ResultState.FAILED, reason)]


def test_no_job_is_begun_before_online_is_acknowledged(session: Session, at: Instant) -> None:
    waiting = replace(job(session, at), stage=Stage.GREETING)

    assert commands.step(waiting, at) == Turn(waiting)


def test_an_ack_of_another_message_greets_nobody(session: Session, at: Instant) -> None:
    greeting = presence.greet(replace(session, stage=Stage.GREETING), at).session

    assert presence.greeted(greeting, at, frozenset({ID})).session.stage is Stage.GREETING
    assert presence.greeted(greeting, at, frozenset({greeting.asks["status"].id})).session.stage is Stage.WORKING


def test_a_late_or_doubled_answer_is_counted_and_not_told(session: Session, at: Instant) -> None:
    after = receipts.refuse(session, Code.BAD_NONCE, at).session

    assert after.counts["refused bad-nonce"] == 1
    assert after.tallies == session.tallies


@pytest.mark.parametrize("code", list(Code))
def test_every_code_can_be_refused(session: Session, at: Instant, code: Code) -> None:
    assert receipts.refuse(session, code, at).session.counts[f"refused {code}"] == 1


def test_an_alert_tells_how_often_and_from_when_to_when(session: Session, at: Instant) -> None:
    tallied = receipts.tally(receipts.tally(session, AlertCode.REPLAYED, at), AlertCode.REPLAYED, later(at, 9), 4)
    turn = receipts.step(tallied, later(at, 10))

    assert [c.kind for c in turn.changes if isinstance(c, AddReport)] == ["alert"]
    assert '"count":5' in turn.changes[0].body  # type: ignore[union-attr]
    assert receipts.step(turn.session, later(at, 11)).changes == ()


def test_an_overdue_report_waits_longer_each_time(session: Session, at: Instant) -> None:
    flying = replace(session, flight={ID: Flight(at.boot_us, tries=3)})
    again = receipts.send(flying, at, [], {ID: Report(ID, "result", f'{{"commandId":"{ID}","state":"accepted"}}')})

    assert again.session.flight[ID] == Flight(at.after_s(240), 4)


def test_a_report_that_is_gone_is_not_waited_for(session: Session, at: Instant) -> None:
    flying = replace(session, flight={ID: Flight(at.boot_us)})

    assert receipts.send(flying, at, [], {}).session.flight == {}


@given(dials=st.integers(0, 100), seed=st.binary(min_size=32, max_size=32))
def test_nobody_waits_longer_than_five_minutes_for_a_line(dials: int, seed: bytes) -> None:
    wait_s = dialing.backoff_s(dials, Instant(0, seed).chance("backoff"))

    assert 0 <= wait_s <= min(300, 2**dials)


def test_only_the_brokers_refusals_count_towards_the_factory_door(session: Session, at: Instant) -> None:
    for loss in set(Loss) - {Loss.TLS_REFUSED, Loss.CONNECT_REFUSED}:
        assert dialing.on_lost(session, loss, at).session.refused_since_us is None
    assert dialing.on_lost(session, Loss.TLS_REFUSED, at).session.refused_since_us == at.boot_us


def test_a_factory_line_never_shuts_out(session: Session, at: Instant) -> None:
    factory = replace(session, stage=Stage.HELLO, door=DOORS[Stage.HELLO], refused_since_us=0)

    assert dialing.on_lost(factory, Loss.TLS_REFUSED, later(at, 9999)).session.stage is Stage.HELLO


def test_suffixes_differ_by_door(session: Session) -> None:
    doors = [door for door in set(DOORS.values()) if door is not None]
    used = {(door.role, door.strict): dialing.suffix(session, door) for door in doors}

    assert used[Role.FACTORY, True] == used[Role.FACTORY, False]
    assert len(set(used.values())) == 3


def test_device_info_says_what_the_device_is(session: Session, at: Instant) -> None:
    info = describe(session, Sighting(DeviceStatus.BUSY, firmware="9.9"), at)

    assert (info.deviceId, info.deviceCode, info.firmware) == (session.facts.device_id, "unassigned", "9.9")
    assert (info.deviceStatus, info.deviceSubId) == (DeviceStatus.BUSY, ["1", "2", "3"])
    assert info.digitalId == session.digital_id


def test_a_device_is_looked_at_again_within_thirty_seconds(session: Session, at: Instant) -> None:
    assert due_us(session, at.boot_us) <= at.after_s(30)


def test_a_device_without_time_and_without_a_line_is_not_busy(session: Session, at: Instant) -> None:
    idle = replace(
        session,
        clock=replace(session.clock, latest_us=253402300799_000_000),
        tallies=receipts.tally(session, AlertCode.STALE, at).tallies,
        telemetry_us=0,
        connected=False,
    )

    assert due_us(idle, at.boot_us) > at.boot_us


def test_the_clock_is_written_down_every_ten_minutes(session: Session, at: Instant) -> None:
    early = clock.step(session, later(at, 300)).session
    late = clock.step(session, later(at, 601)).session

    assert early.kept.clock == session.kept.clock != late.kept.clock


@pytest.mark.parametrize(("name", "says"), [("", 0), ("A" * 22, 1)])
def test_goodbye_is_said_only_where_a_session_was_begun(session: Session, at: Instant, name: str, says: int) -> None:
    enrolled = replace(session, stage=Stage.GREETING, connected=True, presence=name)

    assert len(presence.farewell(enrolled, at).says) == says
