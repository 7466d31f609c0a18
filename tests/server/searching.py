"""Where a marker is: in logs, on the standard streams, in answers and views, in each column of the store, in files."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetward_broker.logs import EventFormatter
from fleetward_schemas.strict import b64url_decode
from tests.canary import spellings
from tests.server.test_worker import Bench

PAGES = "pages"
"""What the store's file still holds of a row that was replaced, or never committed."""


@dataclass
class Search:
    """Everything that a message can leave behind."""

    bench: Bench
    log: pytest.LogCaptureFixture
    streams: pytest.CaptureFixture[str] | None = None

    def __post_init__(self) -> None:
        self.log.set_level(logging.DEBUG)

    def finds(self, marker: str) -> set[str]:
        """Return where a marker is, in any spelling; log and streams are then forgotten. A column is table.column."""
        needles, store = spellings(marker), self.bench.store.path
        found = {where for where, data in self._places() if _holds(data, needles)}
        files = (path for path in store.parent.rglob("*") if path.is_file())
        holding = [path for path in files if _holds(path.read_bytes(), needles)]
        found |= {path.name for path in holding if not path.name.startswith(store.name)}
        if any(path.name.startswith(store.name) for path in holding):
            found |= set(_columns(store, needles)) or {PAGES}
        return found

    def _places(self) -> Iterator[tuple[str, bytes]]:
        shown = EventFormatter("json")
        # What a formatter would cut or hide counts too: records are looked at whole.
        yield "log", "\n".join(f"{vars(one)} {shown.format(one)}" for one in self.log.records).encode()
        self.log.clear()
        for topic, raw in self.bench.link.sent:
            said = b64url_decode(raw.split(b".")[1]) if raw.count(b".") == 2 else raw
            # A kind that goes down is an answer, and anything else stands by its topic.
            yield "answer" if "/down/" in topic else topic, topic.encode() + said
        if self.streams is not None:
            yield "streams", "".join(self.streams.readouterr()).encode()


def _holds(data: bytes, needles: list[bytes]) -> bool:
    return any(one in data for one in needles)


def _columns(path: Path, needles: list[bytes]) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = store.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in rows.description]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    if _holds(value if isinstance(value, bytes) else str(value).encode(), needles):
                        yield f"{table}.{name}"
