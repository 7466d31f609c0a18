"""The store on disk: SQLite, one file, one writer thread, one commit for all that arrived during the last one.

Rule: WAL with synchronous=FULL, so that ``commit`` returns only when its changes would outlive power loss. A message is
one row however many sessions and retained topics refer to it, and goes with the last of them. All SQL is here.
Source: https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous.
"""

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fleetward_broker.durable import PRIVATE_MODE
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

VERSION = 1
LOCK_WAIT_S = 2.0
_UNUSED = """
delete from message where number = old.number
    and not exists (select 1 from queued where number = old.number)
    and not exists (select 1 from retained where number = old.number);
"""
SCHEMA = f"""
create table session (client_id text primary key, seen integer not null) without rowid;
create table subscription (
    client_id text not null, wanted text not null, qos integer not null, primary key (client_id, wanted)
) without rowid;
create table message (number integer primary key, topic text not null, payload blob not null, qos integer not null);
create table queued (
    number integer not null, client_id text not null, retain integer not null, primary key (number, client_id)
) without rowid;
create table retained (topic text primary key, number integer not null) without rowid;
create index retained_number on retained (number);
create trigger dequeued after delete on queued begin {_UNUSED} end;
create trigger unretained after delete on retained begin {_UNUSED} end;
create trigger retained_anew after update on retained begin {_UNUSED} end;
pragma user_version = {VERSION};
"""

Row = tuple[Any, ...]
STATEMENTS: dict[type, tuple[str, Callable[[Any], Row]]] = {
    KeepSession: (
        "insert into session values (?, ?) on conflict do update set seen = excluded.seen",
        lambda c: (c.client_id, c.seen),
    ),
    Subscribe: (
        "insert into subscription values (?, ?, ?) on conflict do update set qos = excluded.qos",
        lambda c: (c.client_id, c.wanted, c.qos),
    ),
    Unsubscribe: (
        "delete from subscription where client_id = ? and wanted = ?",
        lambda c: (c.client_id, c.wanted),
    ),
    KeepMessage: (
        "insert into message values (?, ?, ?, ?)",
        lambda c: (c.message.number, c.message.topic, c.message.payload, c.message.qos),
    ),
    Enqueue: (
        # A retained message may be asked for again before its first copy was acknowledged.
        "insert into queued values (?, ?, ?) on conflict do nothing",
        lambda c: (c.number, c.client_id, c.retain),
    ),
    Dequeue: ("delete from queued where number = ? and client_id = ?", lambda c: (c.number, c.client_id)),
    Retain: (
        "insert into retained values (?, ?) on conflict do update set number = excluded.number",
        lambda c: (c.topic, c.number),
    ),
    Unretain: ("delete from retained where topic = ?", lambda c: (c.topic,)),
}


class SqliteStore:
    """The store of one running broker; a second one on the same file is refused."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            StoreUnusable: naming it.
        """
        self._path = path
        try:
            # Made here, since SQLite would let others read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_MODE))
            self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
            hint = "; move it away: what waits in it comes again from both ends" if damaged else ""
            raise StoreUnusable(f"{path}: {error}{hint}") from None
        self._worker = ThreadPoolExecutor(1, "broker-store")
        self._batch: list[Change] = []
        self._next: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._failure: StoreUnusable | None = None

    def load(self) -> Kept:
        """Return what was kept."""
        try:
            return _load(self._db)
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self._path}: {error}") from None

    def write(self, change: Change) -> None:
        """Take one change into the next commit, which begins at once or after the one under way."""
        self._batch.append(change)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())

    async def commit(self) -> None:
        """Return once all that was written before is durable.

        Raises:
            StoreUnusable: it is not, and will not be.
        """
        under_way = self._next or self._running
        if under_way is not None:
            await asyncio.shield(under_way)
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Commit what is left and let go of the file."""
        try:
            await self.commit()
        finally:
            self._worker.shutdown()
            self._db.close()

    async def _drain(self) -> None:
        while self._next is not None:
            batch, self._batch = self._batch, []
            done, self._next = self._next, None
            # After a failure nothing more is taken: it would be durable without what came before it.
            if self._failure is None:
                await self._try(batch)
            done.set_result(None)

    async def _try(self, batch: list[Change]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._apply, batch)
        except sqlite3.Error as error:
            self._failure = StoreUnusable(f"{self._path}: {error}")

    def _apply(self, batch: list[Change]) -> None:
        """Commit one batch; runs in the writer thread."""
        self._db.execute("begin immediate")
        for kind, changes in itertools.groupby(batch, type):
            if kind is DropSession:
                _drop_sessions(self._db, [(c.client_id,) for c in changes if isinstance(c, DropSession)])
                continue
            sql, row_of = STATEMENTS[kind]
            self._db.executemany(sql, map(row_of, changes))
        self._db.execute("commit")


def _drop_sessions(db: sqlite3.Connection, ids: list[tuple[str]]) -> None:
    """Forget sessions; the router has dequeued their messages before, one by one."""
    db.executemany("delete from subscription where client_id = ?", ids)
    db.executemany("delete from session where client_id = ?", ids)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive: two brokers on one file would each be the truth.
        db.execute("pragma locking_mode = exclusive")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute("begin immediate")
        db.execute("commit")
        found = db.execute("pragma user_version").fetchone()[0]
        if found == 0:
            db.executescript(f"begin; {SCHEMA} commit;")
        elif found != VERSION:
            raise sqlite3.DatabaseError(f"store version {found}: this broker reads {VERSION}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _load(db: sqlite3.Connection) -> Kept:
    messages = {
        number: Message(topic, payload, qos, number)
        for number, topic, payload, qos in db.execute("select number, topic, payload, qos from message")
    }
    sessions = {name: KeptSession(seen) for name, seen in db.execute("select client_id, seen from session")}
    for name, wanted, qos in db.execute("select client_id, wanted, qos from subscription"):
        sessions[name].subscriptions[wanted] = qos
    # What is still queued may have been sent by the last process: DUP (MQTT 3.1.1 section 3.3.1.1).
    for number, name, retain in db.execute("select number, client_id, retain from queued order by number"):
        sessions[name].queue.append(Copy(messages[number], bool(retain), again=True))
    retained = {topic: messages[number] for topic, number in db.execute("select topic, number from retained")}
    return Kept(sessions, retained, max(messages, default=0))
