"""A metered link carries a day's bytes, and beyond them only what must be known."""

from datetime import UTC, datetime, timedelta

from fleetward_agent.budget import Budget
from fleetward_agent.outbox import BUDGET_SPENT
from fleetward_agent.walk import Stage as At
from fleetward_schemas.commands import ResultState
from tests.agent.orders import order, readings, results
from tests.world import Provider, Stage

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_day_has_its_bytes_and_the_next_one_its_own() -> None:
    budget = Budget(100).at(NOON).spend(99)
    assert not budget.over
    assert budget.spend(1).over
    assert not budget.spend(1).at(NOON + DAY).over


def test_a_day_does_not_come_back() -> None:
    spent = Budget(100).at(NOON).spend(100)
    assert spent.at(NOON - DAY) == spent.at(NOON) == spent


def test_without_a_budget_nobody_counts() -> None:
    assert Budget().at(NOON).spend(10**9) == Budget()


def metered(provider: Provider, bytes_per_day: int) -> Stage:
    stage = Stage(provider, bytes_per_day=bytes_per_day)
    stage.until(lambda: stage.device.stage is At.WORKING)
    return stage


def test_readings_wait_until_a_report_is_full(provider: Provider) -> None:
    stage = metered(provider, 10**7)
    stage.pass_s(30 * 50)
    sizes = [len(h.body.readings) for h in stage.server.said("telemetry")]  # type: ignore[attr-defined]
    assert sizes == [20, 20]


def test_when_it_is_spent_only_results_alerts_and_status_leave(provider: Provider) -> None:
    stage = metered(provider, 30_000)
    stage.pass_s(4 * 3600)
    assert stage.device.session.budget.over
    assert len(stage.events("budget-spent")) == 1
    stage.server.heard.clear()

    command = order(stage, "sync-time")
    stage.link.cut()
    stage.pass_s(4 * 3600)
    assert {h.opened.kind.name for h in stage.server.heard} <= {"status", "time", "result", "alert"}
    assert results(stage, command)[-1] is ResultState.SUCCEEDED


def test_the_next_day_brings_what_waited(provider: Provider) -> None:
    stage = metered(provider, 60_000)
    stage.pass_s(11 * 3600)
    waiting = stage.parts.outbox.depth
    assert waiting > 10
    before = len(readings(stage.server.said("telemetry")))
    stage.pass_s(2 * 3600)
    assert len(readings(stage.server.said("telemetry"))) > before


def test_a_restart_does_not_bring_a_new_budget(provider: Provider) -> None:
    stage = metered(provider, 60_000)
    stage.pass_s(3600)
    spent = stage.device.session.budget.spent
    assert 0 < stage.parts.outbox.counter(BUDGET_SPENT) <= spent
    stage.start()
    assert stage.device.session.budget.spent == stage.parts.outbox.counter(BUDGET_SPENT) > 0
