"""The outbox: what must not be lost, in SQLite (WAL, synchronous=FULL), one transaction per turn.

Reports wait here until a signed ``ack`` names them; commands, replay windows and counters share the transaction, so a
crash leaves a turn whole or not at all. When it is full, telemetry becomes coarser, what is old first, and is counted;
a result or an alert is never dropped, and telemetry alone grows too old.
Source: protocol sections 3 (``seq``), 4 (reports) and 5 "Commands".
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import singledispatchmethod
from pathlib import Path

from fleetward_agent.outbox_schema import SCHEMA
from fleetward_agent.thinning import Walk, thinned
from fleetward_agent.turn import (
    AddReport,
    Change,
    Count,
    DropReports,
    ForgetAll,
    GrowReport,
    PutCommand,
    PutWindow,
    Spent,
    Sweep,
)
from fleetward_agent.upgrade_state import Committed, RaiseFloor
from fleetward_agent.urgency import EVERY, TELEMETRY
from fleetward_schemas.commands import ResultReason, ResultState
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.moment import to_ms
from fleetward_schemas.replay import ReplayWindow

FILE = "outbox.db"
KEEP_COMMANDS = timedelta(days=90)
DROPPED, THINNED = "outboxDropped", "outboxThinned"
BUDGET_DAY, BUDGET_SPENT = "budgetDay", "budgetSpent"
REFUSED = "reportsRefused"
_TELEMETRY = "telemetry"


class OutboxFull(OSError):  # noqa: N818 - says what is wrong
    """There is no room, and nothing waiting may be given up; the turn was not committed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and telemetry how long."""

    rows: int = 50_000
    size_bytes: int = 64 * 1024 * 1024
    telemetry_days: int = 90


@dataclass(frozen=True, slots=True)
class Report:
    """One report that waits. body: its JSON."""

    id: str
    kind: str
    body: str


class Outbox:
    """One device's outbox; used by one thread."""

    def __init__(self, path: Path | None, limits: Limits | None = None, *, patience_s: float = 2.0) -> None:
        """Open ``path``; with None in memory alone, for simulated devices. patience_s: how long a lock is waited for.

        Raises:
            sqlite3.Error, OSError: the file cannot be opened; the message names it.
        """
        self.path = path
        self._limits = limits or Limits()
        self._rows = self._size_bytes = 0
        self._walk = Walk()
        try:
            self._db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=patience_s)
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise type(error)(f"{path}: {error}; if it is damaged, move it away: what waits is lost") from None

    def _prepare(self) -> None:
        if self.path is not None:
            self.path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._measure()

    @property
    def depth(self) -> int:
        """How many reports wait."""
        return self._rows

    def commit(self, changes: Sequence[Change]) -> int:
        """Make all changes durable, or none; return how many readings had to go.

        Raises:
            sqlite3.Error: the disk is full or the database locked. OutboxFull: see there.
        """
        before = self._rows, self._size_bytes, self._walk
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for change in changes:
                self._apply(change)
            gone = self._make_room()
            self._db.execute("COMMIT")
        except BaseException:
            # Whatever it was, it goes on its way; only the half-done turn must not stay.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._rows, self._size_bytes, self._walk = before
            raise
        return gone

    def waiting(self, most: int, but: Collection[str] = (), priorities: range = EVERY) -> list[Report]:
        """Return the next reports to send, without those in ``but``: by urgency, telemetry from the newest back."""
        found: list[Report] = []
        for priority in priorities:
            # ids are in order of making, so an order by id is one of time.
            order = "DESC" if priority == TELEMETRY else "ASC"
            rows = self._db.execute(
                f"SELECT id, kind, body FROM outbox WHERE priority=? ORDER BY id {order} LIMIT ?",  # noqa: S608 - fixed
                (priority, most - len(found) + len(but)),
            )
            found += [Report(*row) for row in rows.fetchall() if row[0] not in but][: most - len(found)]
        return found

    def reports(self, ids: Collection[str]) -> dict[str, Report]:
        """Return those of ``ids`` that still wait."""
        found = (self._db.execute("SELECT id, kind, body FROM outbox WHERE id=?", (one,)).fetchone() for one in ids)
        return {row[0]: Report(*row) for row in found if row is not None}

    def command(self, command_id: str) -> PutCommand | None:
        """Return what is known of a command."""
        row = self._db.execute("SELECT * FROM commands WHERE command_id=?", (command_id,)).fetchone()
        return None if row is None else _command(row)

    def open_commands(self) -> list[PutCommand]:
        """Return the commands that were accepted and not finished: after a crash they run again."""
        rows = self._db.execute("SELECT * FROM commands WHERE state=? ORDER BY command_id", (ResultState.ACCEPTED,))
        return [_command(row) for row in rows]

    def windows(self) -> Mapping[tuple[str, str], ReplayWindow]:
        """Return every replay window."""
        rows = self._db.execute("SELECT signer, topic, highest, seen FROM windows")
        return {(signer, topic): ReplayWindow(highest, int(seen, 16)) for signer, topic, highest, seen in rows}

    def counter(self, name: str) -> int:
        """Return a durable counter."""
        row = self._db.execute("SELECT value FROM counters WHERE name=?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def floors(self) -> tuple[Committed, ...]:
        """Return the counters committed, as they stand here."""
        return tuple(Committed(*row) for row in self._db.execute("SELECT name, counter, sha256, version FROM floors"))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _measure(self) -> None:
        row = self._db.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox").fetchone()
        self._rows, self._size_bytes = int(row[0]), int(row[1])

    @singledispatchmethod
    def _apply(self, change: Change) -> None:
        raise LocalMistake(f"{type(change).__name__} is no change of the outbox")

    @_apply.register
    def _(self, change: AddReport) -> None:
        done = self._db.execute(
            "INSERT OR IGNORE INTO outbox VALUES(?,?,?,?,?)",
            (change.id, change.kind, change.body, change.priority, change.created_ms),
        )
        self._rows += done.rowcount
        self._size_bytes += done.rowcount * len(change.body)

    @_apply.register
    def _(self, change: GrowReport) -> None:
        row = self._db.execute("SELECT length(body) FROM outbox WHERE id=?", (change.id,)).fetchone()
        if row is not None:
            self._db.execute("UPDATE outbox SET body=? WHERE id=?", (change.body, change.id))
            self._size_bytes += len(change.body) - int(row[0])

    @_apply.register
    def _(self, change: DropReports) -> None:
        for one in change.ids:
            self._drop(one)

    @_apply.register
    def _(self, _: ForgetAll) -> None:
        self._db.execute("DELETE FROM outbox")
        self._db.execute("DELETE FROM commands")
        self._db.execute("DELETE FROM windows")
        self._rows = self._size_bytes = 0

    @_apply.register
    def _(self, change: PutCommand) -> None:
        row = (change.command_id, change.state, change.reason, change.verb, change.params, change.expires_ms)
        self._db.execute("INSERT OR REPLACE INTO commands VALUES(?,?,?,?,?,?,?)", (*row, change.at_ms))

    @_apply.register
    def _(self, change: PutWindow) -> None:
        row = (change.signer, change.topic, change.window.highest, f"{change.window.seen:x}", to_ms(change.expires))
        self._db.execute("INSERT OR REPLACE INTO windows VALUES(?,?,?,?,?)", row)

    @_apply.register
    def _(self, change: Count) -> None:
        self._count(change.name, change.by)

    @_apply.register
    def _(self, change: Spent) -> None:
        for name, value in ((BUDGET_DAY, change.day), (BUDGET_SPENT, change.size_bytes)):
            self._db.execute("INSERT OR REPLACE INTO counters VALUES(?,?)", (name, value))

    @_apply.register
    def _(self, change: Sweep) -> None:
        before_ms = to_ms(change.now - KEEP_COMMANDS)
        self._db.execute("DELETE FROM commands WHERE state<>? AND at_ms<?", (ResultState.ACCEPTED, before_ms))
        self._db.execute("DELETE FROM windows WHERE expires_ms<?", (to_ms(change.now),))
        oldest_ms = to_ms(change.now - timedelta(days=self._limits.telemetry_days))
        old = self._db.execute("SELECT id FROM outbox WHERE kind=? AND created_ms<?", (_TELEMETRY, oldest_ms))
        for (one,) in old.fetchall():
            self._drop(one)
            self._count(DROPPED, 1)

    @_apply.register
    def _(self, change: RaiseFloor) -> None:
        one = change.committed
        self._db.execute(
            # C8: never lower
            "INSERT INTO floors VALUES(?,?,?,?) ON CONFLICT(name) DO UPDATE SET counter=excluded.counter,"
            " sha256=excluded.sha256, version=excluded.version WHERE excluded.counter>floors.counter",
            (one.name, one.counter, one.sha256, one.version),
        )

    def _count(self, name: str, by: int) -> None:
        self._db.execute(
            "INSERT INTO counters VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=value+excluded.value", (name, by)
        )

    def _drop(self, one: str) -> None:
        row = self._db.execute("DELETE FROM outbox WHERE id=? RETURNING length(body)", (one,)).fetchone()
        if row is not None:
            self._rows -= 1
            self._size_bytes -= int(row[0])

    def _make_room(self) -> int:
        """Thin telemetry until all fits, and count in the same transaction what went."""
        gone = 0
        while self._rows > self._limits.rows or self._size_bytes > self._limits.size_bytes:
            gone += self._thin()
        if gone:
            self._count(THINNED, gone)
        return gone

    def _thin(self) -> int:
        """Take the walk's next step; return how many readings went."""
        found = self._next_to_thin()
        if found is None:
            self._walk = replace(self._walk, last="", end=self._middle())
            found = self._next_to_thin()
        if found is None:
            raise OutboxFull(f"{self._rows} reports of {self._size_bytes} bytes wait: no more fit")
        report_id, body = found
        left, gone, odd = thinned(body, odd=self._walk.odd)
        self._walk = replace(self._walk, last=report_id, odd=odd)
        if left is None:
            self._drop(report_id)
            self._count(DROPPED, 1)
        elif gone:
            self._db.execute("UPDATE outbox SET body=? WHERE id=?", (left, report_id))
            self._size_bytes += len(left) - len(body)
        return gone

    def _next_to_thin(self) -> tuple[str, str] | None:
        within = (_TELEMETRY, self._walk.last, self._walk.end)
        row = self._db.execute(
            "SELECT id, body FROM outbox WHERE kind=? AND id>? AND id<=? ORDER BY id LIMIT 1", within
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def _middle(self) -> str:
        """Return the last report of telemetry's oldest half."""
        held = self._db.execute("SELECT count(*) FROM outbox WHERE kind=?", (_TELEMETRY,)).fetchone()[0]
        rank = max(0, held - 1) // 2
        row = self._db.execute("SELECT id FROM outbox WHERE kind=? ORDER BY id LIMIT 1 OFFSET ?", (_TELEMETRY, rank))
        found = row.fetchone()
        return "" if found is None else str(found[0])


def _command(row: tuple[str, str, str | None, str, str, int, int]) -> PutCommand:
    command_id, state, reason, verb, params, expires_ms, at_ms = row
    why = None if reason is None else ResultReason(reason)
    return PutCommand(command_id, ResultState(state), why, verb, params, expires_ms, at_ms)
