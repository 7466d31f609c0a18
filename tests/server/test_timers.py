"""What comes round: each duty at once, then once in its period, and sooner where that is planned."""

import pytest

from fleetward_server.timers import EVERY_S, Duty, Timers

BEACON_S = 30.0


@pytest.mark.parametrize("duty", Duty)
def test_a_duty_is_due_at_once_and_then_once_in_its_period(duty: Duty) -> None:
    timers, every_s = Timers(BEACON_S), {**EVERY_S, Duty.BEACON: BEACON_S}[duty]
    assert timers.due(duty, 1000.0)
    assert not timers.due(duty, 1000.0 + every_s - 0.01)
    assert timers.due(duty, 1000.0 + every_s)


def test_a_duty_that_is_planned_sooner_keeps_no_other() -> None:
    timers = Timers(BEACON_S)
    assert timers.due(Duty.CLEAN, 1000.0)
    assert timers.due(Duty.ENDS, 1000.0)
    timers.plan(Duty.CLEAN, 1000.25)
    assert timers.due(Duty.CLEAN, 1000.25)
    assert not timers.due(Duty.ENDS, 1000.25)
