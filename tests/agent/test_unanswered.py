"""A device that a server no longer knows proves itself anew; one whose server is away waits for it."""

from datetime import timedelta

from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from tests.agent.orders import online
from tests.world import Stage

BEACON_S = 30


def live(stage: Stage, minutes: int) -> None:
    """Let time pass while the server's beacons are heard."""
    for _ in range(minutes * 60 // BEACON_S):
        stage.pass_s(BEACON_S)
        stage.beacon()


def as_factory(stage: Stage) -> bool:
    return stage.link.dials[-1].client_id.startswith("f-")


def test_an_hour_without_an_answer_leads_back_to_the_factory_door(working: Stage) -> None:
    working.server.silent.add(working.id)
    working.link.cut()
    live(working, 50)
    assert not as_factory(working)

    live(working, 40)

    assert working.server.said("enrol")[1:]
    working.server.silent.clear()
    working.until(lambda: online(working), 600)


def test_what_waited_is_handed_over_afterwards(working: Stage) -> None:
    working.server.silent.add(working.id)
    live(working, 120)
    waiting = {report.id for report in working.parts.outbox.waiting(1000)}
    assert waiting

    working.server.silent.clear()

    working.until(lambda: waiting <= set(working.server.reports), 1200)


def test_a_server_that_is_away_is_waited_for(working: Stage) -> None:
    working.server.silent.add(working.id)
    working.link.cut()
    working.pass_s(3 * 3600)
    assert not as_factory(working)
    assert working.device.stage is At.GREETING

    working.server.silent.clear()
    working.until(lambda: online(working), 900)
    assert len(working.server.said("enrol")) == 1


def test_hours_without_a_line_do_not_count(working: Stage) -> None:
    working.server.silent.add(working.id)
    working.link.cut()
    live(working, 30)
    working.link.refuse = Loss.UNREACHABLE
    working.link.cut()
    working.pass_s(2 * 3600)
    working.link.refuse = None
    live(working, 5)
    assert working.device.session.ignored_us < timedelta(minutes=40) / timedelta(microseconds=1)


def test_one_answer_begins_the_hour_anew(working: Stage) -> None:
    working.server.silent.add(working.id)
    working.link.cut()
    live(working, 50)
    working.server.silent.clear()
    live(working, 10)
    working.server.silent.add(working.id)
    working.link.cut()

    live(working, 50)

    assert not as_factory(working)


def test_a_device_that_knows_no_time_and_gets_none_asks_at_the_factory_door(working: Stage) -> None:
    working.server.silent.add(working.id)
    working.clock.boot_us = 0
    working.start()
    working.pass_s(600)
    assert working.device.stage is At.DEVICE_TIME
    working.until(lambda: as_factory(working), 2 * 3600)
