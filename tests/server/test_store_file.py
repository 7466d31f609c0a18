"""The file is opened whole or refused with what to do."""

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, create_engine

from fleetward_server.store import StoreHeld, StoreProblem, open_store
from fleetward_server.store.engine import HEAD, MIGRATIONS, _migrate
from fleetward_server.store.rows import from_device
from fleetward_server.store.tables import META
from tests.server.register import FIRST, device, kept, made


def test_a_missing_store_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="fleetward init"):
        open_store(tmp_path / "server.db")


def test_who_serves_makes_no_empty_register_in_the_place_of_a_lost_one(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="restore it from a backup"):
        open_store(tmp_path / "server.db", migrate=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_taken_away_or_exchanged_is_missed_and_one_put_back_is_not(tmp_path: Path) -> None:
    path, away = tmp_path / "server.db", tmp_path / "away.db"
    with made(tmp_path) as store:
        assert store.astray() == ""
        path.rename(away)
        assert "not the file that was opened" in store.astray()
        path.touch()
        assert "not the file that was opened" in store.astray()
        away.replace(path)
        assert store.astray() == ""


def test_a_store_opens_again_with_what_it_held(tmp_path: Path) -> None:
    kept(made(tmp_path), device()).close()
    with open_store(tmp_path / "server.db") as store:
        assert store.device(FIRST) == device()


def test_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    made(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "server.db").stat().st_mode) == 0o600


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.db").mkdir()
    with pytest.raises(StoreProblem, match="not a file"):
        open_store(tmp_path / "server.db", create=True)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_text("hello " * 1000)
    with pytest.raises(StoreProblem, match="not a database"):
        open_store(tmp_path / "server.db", create=True)


def test_a_database_without_our_schema_is_refused_until_it_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(StoreProblem, match="holds no register; restore"):
        open_store(path)
    with pytest.raises(StoreProblem, match="holds no register; restore"):
        open_store(path, migrate=True)
    open_store(path, create=True).close()
    open_store(path, migrate=True).close()
    open_store(path).close()


def test_a_newer_schema_is_refused_even_for_writing_it_anew(tmp_path: Path) -> None:
    made(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "server.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreProblem, match="9999 is newer"):
        open_store(tmp_path / "server.db", create=True)


def test_a_store_held_by_another_is_told_apart(tmp_path: Path) -> None:
    made(tmp_path).close()
    with open_store(tmp_path / "server.db") as holder, open_store(tmp_path / "server.db", patience_s=0.05) as other:
        with holder.unit(), pytest.raises(StoreHeld, match="another process"), other.unit():
            pass
        kept(other, device())


def test_a_reader_is_never_kept_waiting_by_a_writer(tmp_path: Path) -> None:
    kept(made(tmp_path), device()).close()
    with open_store(tmp_path / "server.db") as holder, holder.unit(), open_store(holder.path, patience_s=0) as other:
        assert other.device(FIRST) == device()


def test_migrations_make_exactly_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    made(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), META) == []
    engine.dispose()


def test_the_head_in_the_code_is_the_last_revision() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_full_disk_keeps_nothing_of_the_batch_and_the_next_one_works(tmp_path: Path) -> None:
    with made(tmp_path) as store:
        with store.unit() as unit:
            pages = unit._connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
            unit._connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}")
        with pytest.raises(StoreProblem, match="disk is full"):
            kept(store, *(device(number, device_info="x" * 4000) for number in range(100)))
        assert store.devices() == ()
        assert kept(store, device()).device(FIRST) == device()


def test_tags_of_an_older_schema_are_taken_over(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    with engine.begin() as connection:
        _migrate(connection, "0002")
        old = Table("devices", MetaData(), autoload_with=connection)
        for one, tags in ((device(1), ";gate;north;"), (device(2), "")):
            known = {name: value for name, value in from_device(one).items() if name in old.columns}
            connection.execute(old.insert(), known | {"tags": tags})
    engine.dispose()
    with open_store(tmp_path / "server.db", create=True) as store:
        assert store.device(FIRST) == device(1, tags=("gate", "north"))
        assert store.device(device(2).id) == device(2)
