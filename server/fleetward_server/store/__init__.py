"""The store: everything the server knows, in one SQLite file; the only place that speaks SQL.

``unit()`` is one transaction of a batch or an act; the rest are reads for operators and duties of the worker.
Source: S5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Engine

from fleetward_server.store import journal
from fleetward_server.store.duties import Duties
from fleetward_server.store.endings import LEVELS_DAYS, DeviceEndings, EndingQueries
from fleetward_server.store.engine import PATIENCE_S, StoreHeld, StoreProblem, open_engine, translated
from fleetward_server.store.masses import MassQueries
from fleetward_server.store.memory import Memory
from fleetward_server.store.mosip import MosipRows
from fleetward_server.store.queries import AuditFilter, Counts, Queries, RefusalCount, ReportFilter
from fleetward_server.store.unit import Unit
from fleetward_server.store.upgrades import Ahead, UpgradeQueries

__all__ = [
    "LEVELS_DAYS",
    "Ahead",
    "AuditFilter",
    "Counts",
    "DeviceEndings",
    "RefusalCount",
    "ReportFilter",
    "Store",
    "StoreHeld",
    "StoreProblem",
    "Unit",
    "open_store",
]


class Store(Queries, MassQueries, EndingQueries, UpgradeQueries, Duties, MosipRows):
    """An open store. One writer at a time: a second one waits, then gives up with ``StoreHeld``.

    Units belong to one thread.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        """Hold what ``open_store`` opened."""
        super().__init__(engine, path)
        self._memory = Memory()

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """Begin a transaction; commit it at the end, or roll all of it back when anything is raised."""
        with self._writing() as connection:
            self._memory.renew(connection)
            unit = Unit(connection, self._memory)
            yield unit
            unit.flush()
            self._write_down(unit.journal_lines())
        unit.remember()

    def _write_down(self, lines: bytes) -> None:
        path = self.path.with_name(journal.FILE)
        try:
            if lines:
                journal.append(path, lines)
        except OSError as error:
            raise StoreProblem(f"{path}: {error.strerror}; nothing was stored") from None

    @contextmanager
    def glance(self) -> Iterator[Unit]:
        """Look at one snapshot without the write lock; what is changed in it is not kept."""
        with translated(self.path), self._engine.connect() as connection:
            yield Unit(connection, Memory())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(path: Path, *, create: bool = False, migrate: bool = False, patience_s: float = PATIENCE_S) -> Store:
    """Open the store at ``path``. migrate: bring an older schema up; create: that, and make it; else both are refused.

    patience_s: how long to wait for another process's transaction.

    Raises:
        StoreProblem: missing, unreadable, full, held by another, or of a schema that is not ours.
    """
    return Store(open_engine(path, create=create, migrate=migrate, patience_s=patience_s), path)
