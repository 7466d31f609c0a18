"""The statements that write, made once. Those of the hot path go to the driver as they are, past SQLAlchemy.

Source: https://www.sqlite.org/lang_upsert.html.
"""

from functools import cache
from operator import itemgetter

from sqlalchemy import Connection, Table, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import Insert, insert

from fleetward_schemas.errors import LocalMistake
from fleetward_server.store import tables
from fleetward_server.store.rows import Values


class Prepared:
    """A statement compiled once, for values that the driver takes as they are: text, integers and bytes."""

    def __init__(self, statement: Insert) -> None:
        """Compile ``statement``."""
        compiled = statement.compile(dialect=sqlite.dialect())
        if not compiled.positiontup:
            raise LocalMistake("a statement without values")
        self._sql = str(compiled)
        self._in_order = itemgetter(*compiled.positiontup)

    def run(self, connection: Connection, values: list[Values]) -> None:
        """Write all rows."""
        if values:
            connection.exec_driver_sql(self._sql, list(map(self._in_order, values)))


@cache
def upsert(table: Table) -> Insert:
    """Insert, or replace the row that has the same primary key."""
    statement = insert(table)
    values = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)


def _kept_window() -> Insert:
    """A signer's end never changes, so the index over it is left alone."""
    statement = insert(tables.windows)
    moved = {"highest": statement.excluded.highest, "seen": statement.excluded.seen}
    return statement.on_conflict_do_update(index_elements=["signer", "topic"], set_=moved)


def _latest_sighting() -> Insert:
    statement = insert(tables.sightings)
    latest = func.max(tables.sightings.c.seen_at, statement.excluded.seen_at)
    return statement.on_conflict_do_update(index_elements=["device_id"], set_={"seen_at": latest})


def _new_report() -> Insert:
    """A report is stored once per (device, id); its number is the database's."""
    columns = [column.name for column in tables.reports.columns if not column.primary_key]
    statement = insert(tables.reports).values(dict.fromkeys(columns))
    return statement.on_conflict_do_nothing(index_elements=["device_id", "id"])


def _added_refusals() -> Insert:
    table, statement = tables.refusals, insert(tables.refusals)
    added = {"count": table.c.count + statement.excluded["count"], "last_at": statement.excluded.last_at}
    return statement.on_conflict_do_update(index_elements=["principal", "code"], set_=added)


def _latest_cut() -> Insert:
    """What is to be told once more is told as of now; a kick that was wanted stays wanted."""
    statement = insert(tables.cuts)
    kick = tables.cuts.c.kick | statement.excluded.kick
    return statement.on_conflict_do_update(
        index_elements=["device_id"], set_={"kick": kick, "since": statement.excluded.since}
    )


KEPT_WINDOW = Prepared(_kept_window())
LATEST_SIGHTING = Prepared(_latest_sighting())
NEW_REPORT = Prepared(_new_report())
LATEST_CUT = _latest_cut()
ADDED_REFUSALS = _added_refusals()
