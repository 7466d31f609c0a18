"""A database file as a whole: copied while it is written to, and looked through without being changed.

The copy is one moment of the source (SQLite's online backup over WAL keeps no writer waiting), and a file of its own.
Source: https://www.sqlite.org/backup.html; https://www.sqlite.org/pragma.html#pragma_integrity_check.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetward_broker.durable import PRIVATE_MODE
from fleetward_server.audit import Link, walk
from fleetward_server.state import AuditEntry
from fleetward_server.store import rows
from fleetward_server.store.engine import HEAD, StoreProblem, translated

MOST_FLAWS = 10
_LINKS = "select seq, at, actor, action, subject, reason, detail, prev_hash, hash from audit where seq > ? order by seq"


@dataclass(frozen=True, slots=True)
class Look:
    """What a database holds. flaws: what is wrong with it, in words; revision: of its schema, empty when unknown."""

    revision: str = ""
    devices: int = 0
    audit_rows: int = 0
    audit_head: str = ""
    flaws: tuple[str, ...] = ()

    @property
    def current(self) -> bool:
        """Whether this version reads it as it is."""
        return self.revision == HEAD

    @property
    def newer(self) -> bool:
        """Whether a newer Fleetward wrote it."""
        return self.revision > HEAD


def copy_database(source: Path, target: Path) -> None:
    """Copy one moment of ``source`` to the new file ``target``.

    Raises:
        StoreProblem: either cannot be used, or the disk is full.
    """
    if not source.is_file():
        raise StoreProblem(f"{source}: not there")
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
    with translated(target), _opened(source, "mode=ro") as old, _opened(target, "mode=rw") as new:
        old.backup(new)
        # Without this the copy would want its log beside it.
        new.execute("pragma journal_mode=delete")


def look_through(path: Path) -> Look:
    """Check every page and every link of the audit chain of a file that nobody writes; nothing of it changes."""
    try:
        with translated(path), _opened(path, "mode=ro&immutable=1") as db:
            return _look(db)
    except StoreProblem as problem:
        return Look(flaws=(str(problem),))


def _look(db: sqlite3.Connection) -> Look:
    said = [str(row[0]) for row in db.execute(f"pragma integrity_check({MOST_FLAWS})")]
    flaws = [] if said == ["ok"] else said
    flaws += [f"row {row[1]} of {row[0]} refers to nothing" for row in db.execute("pragma foreign_key_check")]
    verdict = walk(_Book(db))
    if verdict.broken is not None:
        flaws.append(f"audit: row {verdict.broken} does not hold")
    revision = "".join(str(row[0]) for row in db.execute("select version_num from alembic_version"))
    devices = sum(int(row[0]) for row in db.execute("select count(*) from devices"))
    return Look(revision, devices, verdict.count, verdict.head, tuple(flaws[:MOST_FLAWS]))


@contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


class _Book:
    """The audit of a file, as ``audit.walk`` reads it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def audit_links(self, after: int, limit: int) -> list[Link]:
        return [_link(*row) for row in self._db.execute(f"{_LINKS} limit ?", (after, limit))]

    def audit_length(self) -> int:
        found = self._db.execute("select seq from sqlite_sequence where name = 'audit'").fetchone()
        return 0 if found is None else int(found[0])


def _link(
    seq: int, at: int, actor: str, action: str, subject: str, reason: str, detail: str, prev_hash: str, link_hash: str
) -> Link:
    return Link(seq, AuditEntry(rows.moment(at), actor, action, subject, reason, detail), prev_hash, link_hash)
