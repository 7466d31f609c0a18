"""Old reports go in small transactions, and messages are taken in between."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_server.changes import AddAudit, AddReport, PutChallenge
from fleetward_server.retention import REPORTS, ROWS, Retention
from fleetward_server.settings import RetentionTable
from fleetward_server.store import AuditFilter, ReportFilter, Store
from tests.server.register import FIRST, NOW, challenge, device, entry, kept, made, report

OLD = 100_000
AGES = RetentionTable(telemetry_days=1, reports_days=10)
LATER = NOW + timedelta(days=2)
INSERT = "insert into reports (device_id, id, kind, at, received_at, body) values (?, ?, 'telemetry', 0, 0, '{}')"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with kept(made(tmp_path), device()) as store:
        yield store


def fill(store: Store, count: int) -> None:
    with sqlite3.connect(store.path) as raw:
        raw.executemany(INSERT, ((FIRST, f"old {number}") for number in range(count)))
    raw.close()


def count(store: Store) -> int:
    with sqlite3.connect(store.path) as raw:
        found = raw.execute("select count(*) from reports").fetchone()[0]
    raw.close()
    return int(found)


def cleaned(store: Store) -> int:
    """Clean one round with a message between every two transactions; return how many rows the largest took."""
    retention, most, before, number, more = Retention(AGES), 0, count(store), 0, True
    while more:
        more = retention.clean(store, LATER)
        most, number = max(most, before - count(store)), number + 1
        with store.unit() as unit:
            unit.apply([AddReport(report(number, received_at=LATER))])
        before = count(store)
    return most


def test_a_hundred_thousand_rows_go_a_thousand_at_a_time_with_batches_in_between(store: Store) -> None:
    fill(store, OLD)

    assert cleaned(store) == ROWS

    left = store.reports(ReportFilter(FIRST), limit=OLD)
    assert len(left) > OLD // ROWS
    assert {one.received_at for one in left} == {LATER}


def test_a_round_over_nothing_is_one_look_at_each_kind(store: Store) -> None:
    retention = Retention(AGES)
    assert [retention.clean(store, NOW) for _ in range(len(REPORTS) + 4)] == [True] * (len(REPORTS) + 3) + [False]


def test_telemetry_and_the_other_reports_have_their_own_ages(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([AddReport(report(n, kind=kind)) for n, kind in enumerate(REPORTS)])

    cleaned(store)

    assert {one.kind for one in store.reports(ReportFilter(FIRST)) if one.received_at == NOW} == {*REPORTS} - {
        "telemetry"
    }


def test_challenges_go_and_the_audit_stays(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([PutChallenge(challenge()), AddAudit(entry())])

    cleaned(store)

    with store.unit() as unit:
        assert unit.challenge_of_hello(f"f-{FIRST}", "hello") is None
    assert len(store.audit_links(0, 10, AuditFilter())) == 1
