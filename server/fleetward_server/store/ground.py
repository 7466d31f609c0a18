"""What every read of the store stands on: one engine, one snapshot a read, the driver's errors translated.

Source: CONTRIBUTING.md "Style" (foreign exceptions are translated once).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select

from fleetward_server.store.engine import translated, writing
from fleetward_server.store.rows import AnyRow


class Ground:
    """An open store's file and engine."""

    def __init__(self, engine: Engine, path: Path) -> None:
        """Hold what ``open_store`` opened."""
        self._engine = engine
        self._writer: Connection | None = None
        self.path = path
        self._file = _file_at(path)

    def astray(self) -> str:
        """Say what is wrong when another file, or none, is where ours was: what is written to it is lost at our end."""
        if _file_at(self.path) == self._file:
            return ""
        return f"{self.path}: not the file that was opened; put it back, or restore it from a backup and start again"

    def close(self) -> None:
        """Close every connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Write on one connection for ever: SQLite tells each connection apart from all others (memory.py)."""
        with translated(self.path):
            if self._writer is None:
                self._writer = writing(self._engine).connect()
            with self._writer.begin():
                yield self._writer

    def _all(self, statement: Select[Any]) -> Sequence[AnyRow]:
        with translated(self.path), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def _first(self, statement: Select[Any]) -> AnyRow | None:
        with translated(self.path), self._engine.connect() as connection:
            return connection.execute(statement).first()


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file stands at ``path``; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
