"""A server whose own clock is not known: nothing is thrown away by its age until it is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_server.changes import AddReport
from fleetward_server.config import load
from fleetward_server.init import Wish
from fleetward_server.retention import REPORTS
from fleetward_server.run import Server
from fleetward_server.store import ReportFilter, Store, open_store
from tests.ready import ready_provider
from tests.server.register import FIRST, device, kept, report

LONG_AGO = datetime.now(UTC) - timedelta(days=1000)
A_ROUND = len(REPORTS) + 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ready_provider(tmp_path, Wish(port=0))
    with kept(open_store(tmp_path / "server.db"), device()) as store:
        with store.unit() as unit:
            unit.apply([AddReport(report(1, received_at=LONG_AGO))])
        yield store


@pytest.mark.parametrize(("source", "left"), [("chrony", 1), ("assumed", 0)])
def test_a_clock_that_is_not_known_throws_nothing_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, source: str, left: int
) -> None:
    monkeypatch.setenv("PATH", "")  # no chronyc here
    monkeypatch.setattr("fleetward_server.run.BREATH_S", 0.0)
    config = load(store.path.parent)
    server = Server(replace(config, time=replace(config.time, source=source)), store, 1)
    for _ in range(A_ROUND):
        server.turn(0.0)
    server.close()

    assert len(store.reports(ReportFilter(FIRST))) == left
