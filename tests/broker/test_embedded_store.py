"""The broker's store on disk: what was committed is there again, and nothing else."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_broker.embedded.sqlite import SqliteStore
from fleetward_broker.embedded.store import (
    Change,
    Copy,
    Dequeue,
    DropSession,
    Enqueue,
    KeepMessage,
    KeepSession,
    Kept,
    KeptSession,
    Message,
    Retain,
    StoreUnusable,
    Subscribe,
    Unretain,
    Unsubscribe,
)

ONE, TWO = Message("a/b", b"\x00one", 1, 1), Message("a/b", b"two", 1, 2)
BASE = (KeepSession("x", 10), KeepMessage(ONE), KeepMessage(TWO))


def after(path: Path, *changes: Change) -> Kept:
    """Return what a new process finds once ``changes`` were committed."""

    async def write() -> None:
        store = SqliteStore(path)
        for change in changes:
            store.write(change)
        await store.commit()
        await store.close()

    async def read() -> Kept:
        store = SqliteStore(path)
        kept = store.load()
        await store.close()
        return kept

    asyncio.run(write())
    return asyncio.run(read())


def test_a_new_file_holds_nothing_and_is_private(tmp_path):
    assert after(tmp_path / "db") == Kept()
    assert (tmp_path / "db").stat().st_mode & 0o077 == 0


def test_a_session_comes_back_with_its_subscriptions_and_queue_in_order(tmp_path):
    kept = after(
        tmp_path / "db",
        *BASE,
        Subscribe("x", "a/#", 0),
        Subscribe("x", "a/#", 1),
        Subscribe("x", "b", 1),
        Unsubscribe("x", "b"),
        Enqueue("x", 2, retain=True),
        Enqueue("x", 1, retain=False),
    )
    queue = [Copy(ONE, retain=False, again=True), Copy(TWO, retain=True, again=True)]
    assert kept == Kept({"x": KeptSession(10, {"a/#": 1}, queue)}, {}, last_number=2)


def test_a_message_stays_until_its_last_session_took_it(tmp_path):
    both = (*BASE, KeepSession("y", 11), Enqueue("x", 1, retain=False), Enqueue("y", 1, retain=False), Retain("a", 2))
    kept = after(tmp_path / "db", *both, Dequeue("x", 1))
    assert [copy.message for copy in kept.sessions["y"].queue] == [ONE]
    after(tmp_path / "db", Dequeue("y", 1))
    assert rows(tmp_path / "db", "select number from message") == [(2,)]


def test_a_retained_message_is_replaced_and_cleared_with_nothing_left(tmp_path):
    assert after(tmp_path / "db", *BASE, Retain("a/b", 1), Retain("a/b", 2)).retained == {"a/b": TWO}
    assert rows(tmp_path / "db", "select number from message") == [(2,)]
    assert after(tmp_path / "db", Unretain("a/b")).retained == {}
    assert rows(tmp_path / "db", "select number from message") == []


def test_a_dropped_session_is_gone_with_its_subscriptions(tmp_path):
    kept = after(tmp_path / "db", KeepSession("x", 10), Subscribe("x", "a/#", 1), DropSession("x"))
    assert kept.sessions == {}
    assert rows(tmp_path / "db", "select * from subscription") == []


def test_a_session_that_is_dropped_and_begun_anew_in_one_commit_is_new(tmp_path):
    again = (KeepSession("x", 1), Subscribe("x", "old", 1), DropSession("x"), KeepSession("x", 2))
    assert after(tmp_path / "db", *again).sessions == {"x": KeptSession(2)}


def test_changes_written_during_a_commit_go_into_the_next(tmp_path):
    async def turn() -> None:
        store = SqliteStore(tmp_path / "db")
        for number in range(1, 200):
            store.write(KeepMessage(replace(ONE, number=number)))
            await asyncio.sleep(0)
        await store.commit()
        assert store._batch == []
        await store.close()

    asyncio.run(turn())
    assert rows(tmp_path / "db", "select count(*) from message") == [(199,)]


def test_a_failed_commit_fails_every_later_one(tmp_path):
    async def turn() -> list[str]:
        store, failures = SqliteStore(tmp_path / "db"), []
        for change in (KeepMessage(ONE), KeepMessage(ONE), KeepMessage(TWO)):
            store.write(change)
            try:
                await store.commit()
            except StoreUnusable as failure:
                failures.append(str(failure))
        with pytest.raises(StoreUnusable):
            await store.close()
        return failures

    assert asyncio.run(turn()) == [f"{tmp_path / 'db'}: UNIQUE constraint failed: message.number"] * 2
    assert rows(tmp_path / "db", "select number from message") == [(1,)]


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_file_that_is_no_store_of_ours_is_refused_by_name(tmp_path, content):
    path = tmp_path / "db"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("pragma user_version = 7")
        db.close()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreUnusable, match=str(path)):
        SqliteStore(path)


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    found = db.execute(sql).fetchall()
    db.close()
    return found
