"""An authority whose key is away: enrolments wait and lose nothing, the server's own seal goes on, nothing stops."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_broker.key_problems import TokenLost
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_server.authority import Authority, OwnSeal
from fleetward_server.clock import sureness
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.init import Wish
from fleetward_server.policy import policy_of
from fleetward_server.state import Certificate
from fleetward_server.store import open_store
from fleetward_server.turn import IssuePair
from fleetward_server.worker import Worker
from tests.device import TestDevice
from tests.ready import ready_provider
from tests.server.test_worker import Bench, FakeLink


class Fickle(Authority):
    """An authority whose token can be pulled."""

    away = False

    def issue_pair(self, wanted: IssuePair, now: datetime) -> tuple[Certificate, Certificate]:
        self._there()
        return super().issue_pair(wanted, now)

    def own_seal(self, now: datetime) -> OwnSeal:
        self._there()
        return super().own_seal(now)

    def _there(self) -> None:
        if self.away:
            raise TokenLost("token 'fleetward': lost")


@dataclass
class Scene:
    bench: Bench
    authority: Fickle

    def enrol(self) -> dict[str, object]:
        """Let the L1 say hello and bring its keys; return the answer's body."""
        ((_, challenge),) = self.bench.hear(self.bench.l1.hello(self.bench.now))
        nonce = str(challenge["body"]["serverNonce"])  # type: ignore[index]
        ((_, answer),) = self.bench.hear(self.bench.l1.enrol(self.bench.now, nonce))
        return answer["body"]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("busy") / "p"
    ready_provider(made, Wish(port=0))
    return made


@pytest.fixture
def scene(folder: Path, tmp_path: Path) -> Iterator[Scene]:
    config, now, link = load(folder), datetime.now(UTC), FakeLink()
    (one,) = provision(folder, Order(1, tmp_path, Certification.L1, first=datetime.now(UTC).microsecond + 1))
    device, authority = TestDevice(one.folder), Fickle(config)
    with open_store(config.store_path) as store:
        worker = Worker(store, link, authority, policy_of(config, sureness(config.time)), own_anchors(config), now)
        yield Scene(Bench(worker, link, store, device, device, now), authority)


def test_an_enrolment_waits_while_the_key_is_away_and_is_done_when_it_is_back(scene: Scene) -> None:
    scene.authority.away = True
    held = scene.enrol()
    before = scene.bench.store.device(scene.bench.l1.id)
    scene.authority.away = False

    assert (held["status"], held["reason"], held["retryAfterS"]) == ("pending", "authority-busy", 5)
    assert before is not None
    assert (before.state, before.reason) == (State.APPROVED, None)
    assert scene.enrol()["status"] == "registered"


def test_the_rest_of_a_batch_is_served_while_the_key_is_away(scene: Scene) -> None:
    scene.authority.away = True
    bench, device = scene.bench, scene.bench.l1
    ((_, challenge),) = bench.hear(device.hello(bench.now))
    nonce = str(challenge["body"]["serverNonce"])  # type: ignore[index]

    sent = bench.hear(device.enrol(bench.now, nonce), device.ask_time(bench.now))

    assert [kind for kind, _ in sent] == ["enrolled", "time"]


def test_the_seal_in_memory_goes_on_while_the_key_is_away(scene: Scene) -> None:
    first, later = scene.bench.worker.seal, scene.bench.now + timedelta(days=6)
    scene.authority.away = True
    scene.bench.worker.renew(later)
    kept = scene.bench.worker.seal
    scene.authority.away = False
    scene.bench.worker.renew(later + timedelta(seconds=1))
    asked_too_soon = scene.bench.worker.seal
    scene.bench.worker.renew(later + timedelta(minutes=1))

    assert kept is asked_too_soon is first
    assert scene.bench.worker.seal is not first


def test_after_a_step_back_of_the_clock_the_next_seal_does_not_wait_for_where_it_was(scene: Scene) -> None:
    worker, now = scene.bench.worker, scene.bench.now
    scene.authority.away = True
    worker.renew(now + timedelta(days=400))
    scene.authority.away = False
    first = worker.seal
    worker.renew(now + timedelta(days=6))

    assert worker.seal is not first
