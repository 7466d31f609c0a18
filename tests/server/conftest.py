"""A provider with an L1 and an L0, and a worker to whom a test gives messages; its authority may be another's."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_server.authority import Authority
from fleetward_server.clock import sureness
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.policy import policy_of
from fleetward_server.releases.init import Wish as RepositoryWish
from fleetward_server.releases.operating import Releaser
from fleetward_server.store import open_store
from fleetward_server.worker import Worker
from tests.device import TestDevice
from tests.ready import ready_devices
from tests.server.releaser import SECRET, Maker
from tests.server.test_worker import Bench, FakeLink


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ready_devices(tmp_path_factory.mktemp("provider") / "p")


@pytest.fixture
def authority() -> type[Authority]:
    """Return what certifies for the worker."""
    return Authority


@pytest.fixture
def bench(provider: Path, tmp_path: Path, authority: type[Authority]) -> Iterator[Bench]:
    shutil.copytree(provider, tmp_path / "p")
    config = load(tmp_path / "p")
    now, link = datetime.now(UTC), FakeLink()
    l1, l0 = (TestDevice(next((config.folder / "devices" / level).iterdir())) for level in ("L1", "L0"))
    with open_store(config.store_path, patience_s=0.2) as store:
        policy = policy_of(config, sureness(config.time))
        worker = Worker(store, link, authority(config), policy, own_anchors(config), now)
        yield Bench(worker, link, store, l1, l0, now)


@pytest.fixture(scope="module")
def founded(provider: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provider with a repository, and its offline keys beside it."""
    folder = tmp_path_factory.mktemp("releases")
    shutil.copytree(provider, folder / "p")
    with Releaser(folder / "p", "test") as operator:
        operator.make_repository(RepositoryWish(folder / "K", SECRET))
    return folder


@pytest.fixture
def maker(founded: Path, tmp_path: Path) -> Iterator[Maker]:
    shutil.copytree(founded, tmp_path / "r")
    made = Maker(tmp_path / "r", tmp_path / "r" / "p")
    yield made
    made.operator.close()
