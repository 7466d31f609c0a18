"""No row of the audit changes unseen. Source: S5."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_server import audit
from fleetward_server.changes import AddAudit
from fleetward_server.store import AuditFilter, Store
from tests.server.register import FIRST, entry, half_done, made

ROWS = 6
COLUMNS = ("at", "actor", "action", "subject", "reason", "detail", "prev_hash", "hash")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with made(tmp_path) as chained:
        for half in range(2):
            with chained.unit() as unit:
                unit.apply(AddAudit(entry(f"act-{half}-{number}")) for number in range(ROWS // 2))
        yield chained


def around_the_triggers(store: Store, statement: str, *values: object) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS audit_no_{verb}")
        connection.execute(statement, values)
    connection.close()


def test_an_untouched_chain_holds(store: Store) -> None:
    assert audit.verify(store) == (ROWS, None)
    assert audit.walk(store).head == store.audit_links(ROWS - 1, 1)[0].hash


def test_an_empty_chain_holds(tmp_path: Path) -> None:
    with made(tmp_path) as store:
        assert audit.verify(store) == (0, None)


@given(seq=st.integers(1, ROWS), column=st.sampled_from(COLUMNS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_any_altered_row_is_found(store: Store, seq: int, column: str) -> None:
    connection = sqlite3.connect(store.path)
    (before,) = connection.execute(f"SELECT {column} FROM audit WHERE seq = ?", (seq,)).fetchone()
    connection.close()
    other = before + 1 if isinstance(before, int) else before[:-1] + chr(ord(before[-1:] or "a") ^ 1)
    around_the_triggers(store, f"UPDATE audit SET {column} = ? WHERE seq = ?", other, seq)
    assert audit.verify(store) == (seq - 1, seq)
    around_the_triggers(store, f"UPDATE audit SET {column} = ? WHERE seq = ?", before, seq)
    assert audit.verify(store) == (ROWS, None)


@pytest.mark.parametrize("seq", [1, 3, ROWS])
def test_a_row_taken_out_is_found_even_at_the_end(store: Store, seq: int) -> None:
    around_the_triggers(store, "DELETE FROM audit WHERE seq = ?", seq)
    assert audit.verify(store) == (seq - 1, seq)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_file_itself_refuses_to_change_the_audit(store: Store, statement: str) -> None:
    connection = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="only appended to"):
        connection.execute(statement)
    connection.close()


def test_an_act_that_was_rolled_back_leaves_no_gap(store: Store) -> None:
    with pytest.raises(ValueError, match="halfway"):
        half_done(store, AddAudit(entry("lost")))
    with store.unit() as unit:
        unit.apply([AddAudit(entry("kept"))])
    assert audit.verify(store) == (ROWS + 1, None)


def test_history_is_of_one_subject_and_oldest_first(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([AddAudit(entry("other", subject="somebody"))])
    assert [link.seq for link in store.history(FIRST, limit=2)] == [ROWS - 1, ROWS]
    assert [link.seq for link in store.audit_links(0, 9, AuditFilter(subject="somebody"))] == [ROWS + 1]
