"""The database file: opened safely, its schema brought up or refused, and its troubles put into one exception.

Durable by default (WAL, synchronous=FULL): what a commit said is on the disk before an acknowledgement leaves.
Source: https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from fleetward_schemas.errors import LocalMistake

HEAD = "0010"
"""The schema this code reads and writes: the last revision in ``migrations/versions``."""
PATIENCE_S = 10.0
MIGRATIONS = Path(__file__).parent / "migrations"
_PRIVATE = 0o600
_BEGINS = "fleetward_begins"

_SAID = {
    sqlite3.SQLITE_BUSY: "another process holds the database; try again, or stop what runs on this folder",
    sqlite3.SQLITE_LOCKED: "another process holds the database; try again, or stop what runs on this folder",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was stored: make room and start again",
    sqlite3.SQLITE_READONLY: "may not be written; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_PERM: "may not be opened; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_NOTADB: "is not a database; restore it from a backup",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a backup",
    sqlite3.SQLITE_IOERR: "the disk answers with an error; nothing was stored",
}
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class StoreProblem(Exception):  # noqa: N818 - says what is wrong with the file
    """The store cannot be used; the message names the file, what is wrong and what to do."""


class StoreHeld(StoreProblem):
    """Another process kept the write lock for longer than we wait."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        StoreProblem: the file or disk. LocalMistake: a row that breaks a rule of the schema; checks come before writes.
    """
    try:
        yield
    except IntegrityError as error:
        raise LocalMistake(f"{path}: {error.orig}") from error
    except DBAPIError as error:
        raise _problem(path, error.orig) from None
    except sqlite3.Error as error:
        raise _problem(path, error) from None


def _problem(path: Path, error: BaseException | None) -> StoreProblem:
    # The low byte is the primary code; the rest tells kinds of it apart.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    said = _SAID.get(code, f"cannot be used: {error}")
    return (StoreHeld if code in _HELD else StoreProblem)(f"{path}: {said}")


def open_engine(path: Path, *, create: bool, migrate: bool, patience_s: float) -> Engine:
    """Open the file and see to its schema.

    Who serves a folder migrates and never creates: an empty register in the place of a lost one knows no device.

    Raises:
        StoreProblem: missing, unreadable, held, or of another schema.
    """
    _present(path, create=create)
    engine = create_engine("sqlite://", creator=lambda: _connect(path, patience_s), poolclass=QueuePool)
    event.listen(engine, "begin", _begin)
    try:
        with translated(path):
            _bring_up(engine, path, create=create, migrate=migrate or create)
    except StoreProblem:
        engine.dispose()
        raise
    return engine


def writing(engine: Engine) -> Engine:
    """Return the same engine for transactions that take the write lock at once, so that none fails half way."""
    return engine.execution_options(**{_BEGINS: "BEGIN IMMEDIATE"})


def _present(path: Path, *, create: bool) -> None:
    if path.is_file():
        return
    if path.exists() or not create:
        hint = (
            "not a file"
            if path.exists()
            else f"not there; restore it from a backup, or run: fleetward init --dir {path.parent}"
        )
        raise StoreProblem(f"{path}: {hint}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _PRIVATE))
    except OSError as error:
        raise StoreProblem(f"{path}: cannot be made: {error.strerror}") from None


def _connect(path: Path, patience_s: float) -> sqlite3.Connection:
    # isolation_level None: the driver begins nothing by itself, ``_begin`` does.
    connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGINS, "BEGIN"))


def _bring_up(engine: Engine, path: Path, *, create: bool, migrate: bool) -> None:
    with engine.connect() as connection:
        found = _version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StoreProblem(f"{path}: schema {found} is newer than this version's {HEAD}; install the newer Fleetward")
    if found is None and not create:
        raise StoreProblem(f"{path}: holds no register; restore it from a backup")
    if not migrate:
        raise StoreProblem(f"{path}: schema {found}, this version needs {HEAD}; fleetward up migrates it")
    with writing(engine).begin() as connection:
        _migrate(connection)


def _version(connection: Connection) -> str | None:
    table = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first()
    if table is None:
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def _migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision, all in the caller's transaction."""
    # It tells of its plugins and dialects line by line, which helps nobody who starts a server.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command  # a quarter of a second that only a first start pays
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
