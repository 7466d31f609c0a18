"""What the broker is to be told is told again where it failed, after a while; what is new is told at once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_broker.mosquitto_admin import NotTold
from fleetward_server.changes import Cut
from fleetward_server.config import load
from fleetward_server.cutting import AGAIN, Cutter
from fleetward_server.init import Wish
from fleetward_server.running import locked
from fleetward_server.store import Store, open_store
from tests.ready import ready_provider
from tests.server.register import FIRST, device, kept

NOW = datetime.now(UTC).replace(microsecond=0)
SECOND = timedelta(seconds=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ready_provider(tmp_path, Wish(), NOW)
    with open_store(tmp_path / "server.db") as opened:
        yield kept(opened, device(1), device(2))


def cut(store: Store, *cuts: Cut) -> None:
    with store.unit() as unit:
        unit.apply(cuts)


def attempt(cutter: Cutter, now: datetime) -> bool:
    """Look; say whether an attempt was begun, and let it end."""
    cutter.look(now)
    if cutter._running is None:
        return False
    cutter._running[1].exception(30)
    return True


def test_what_was_told_is_forgotten(store: Store) -> None:
    cutter = Cutter(load(store.path.parent), store)
    cut(store, Cut(FIRST, kick=True, since=NOW))
    assert attempt(cutter, NOW)
    assert not attempt(cutter, NOW + SECOND)
    assert store.cuts() == ()
    cutter.close()


def test_what_failed_waits_and_what_is_new_does_not(store: Store) -> None:
    key = store.path.parent / "pki" / "device-ca.key.pem"
    key.rename(key.with_suffix(".away"))
    cutter = Cutter(load(store.path.parent), store)
    cut(store, Cut(FIRST, kick=True, since=NOW))
    assert attempt(cutter, NOW)
    assert not attempt(cutter, NOW + SECOND)
    cut(store, Cut(device(2).id, kick=True, since=NOW + SECOND))
    assert attempt(cutter, NOW + 2 * SECOND)
    assert not attempt(cutter, NOW + 3 * SECOND)
    key.with_suffix(".away").rename(key)
    assert attempt(cutter, NOW + 3 * SECOND + AGAIN)
    assert not attempt(cutter, NOW + 4 * SECOND + AGAIN)
    assert store.cuts() == ()
    cutter.close()


def test_after_a_step_back_of_the_clock_what_failed_does_not_wait_for_where_it_was(store: Store) -> None:
    key = store.path.parent / "pki" / "device-ca.key.pem"
    key.rename(key.with_suffix(".away"))
    cutter = Cutter(load(store.path.parent), store)
    cut(store, Cut(FIRST, kick=True, since=NOW))
    assert attempt(cutter, NOW + timedelta(days=400))
    assert not attempt(cutter, NOW + timedelta(days=400))
    key.with_suffix(".away").rename(key)
    assert attempt(cutter, NOW)
    cutter.look(NOW + SECOND)
    assert store.cuts() == ()
    cutter.close()


def test_who_is_to_end_waits_for_no_broker(store: Store) -> None:
    """What starts the broker may be waiting for the server's end."""
    cutter = Cutter(load(store.path.parent), store)
    cut(store, Cut(FIRST, kick=True, since=NOW))
    with locked(store.path.parent):
        cutter.look(NOW)
        cutter.close()
        assert cutter._running is not None
        assert isinstance(cutter._running[1].exception(60), NotTold)
    assert len(store.cuts()) == 1
