"""The server's own signing certificate: of 7 days at most, renewed with overlap, and never a reason to fall silent."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from fleetward_agent.trust import Chains, Downlink
from fleetward_schemas.certificates import server_signer
from fleetward_schemas.clock import Clock
from fleetward_schemas.envelope import open_sealed
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.jws import split
from fleetward_schemas.strict import b64_der, b64url_decode, read_object
from fleetward_schemas.topics import fleet
from fleetward_server.authority import RENEW_BEFORE, Authority
from fleetward_server.clock import sureness
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.init import Wish
from fleetward_server.policy import policy_of
from fleetward_server.store import open_store
from fleetward_server.worker import RENEW_AGAIN, Worker
from tests.ready import ready_provider
from tests.server.test_busy import Fickle
from tests.server.test_worker import LINE, FakeLink

LIFE = timedelta(days=7)


@dataclass
class Scene:
    """A worker whose token can be pulled, and a device that hears it and remembers what it saw."""

    worker: Worker
    authority: Fickle
    link: FakeLink
    chains: Chains
    began: datetime
    clock: Clock

    def beacon(self, now: datetime) -> bytes:
        self.link.sent.clear()
        self.worker.beacon(LINE, now)
        return self.link.sent[0][1]

    def hear(self, raw: bytes, now: datetime) -> None:
        """Raises Refused: the device does not take it."""
        trust = Downlink(self.chains, self.clock, now)
        open_sealed(raw, fleet("beacon"), trust, now)


def signer(raw: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(b64_der(split(raw).header["x5c"][0]))


def chain_of(header_segment: bytes) -> tuple[bytes, ...]:
    return tuple(b64_der(one) for one in read_object(b64url_decode(header_segment))["x5c"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("seal") / "p"
    ready_provider(made, Wish(port=0))
    return made


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    config, now, link = load(folder), datetime.now(UTC), FakeLink()
    authority, root = Fickle(config), own_anchors(config)
    with open_store(config.store_path) as store:
        worker = Worker(store, link, authority, policy_of(config, sureness(config.time)), root, now)
        yield Scene(worker, authority, link, Chains(root), now, Clock(0, 0, 0))


def test_the_seal_is_renewed_two_days_before_its_end_and_not_before(scene: Scene) -> None:
    first = scene.worker.seal
    scene.worker.renew(first.not_after - RENEW_BEFORE)
    kept = scene.worker.seal
    scene.worker.renew(first.not_after - RENEW_BEFORE + timedelta(seconds=1))

    assert kept is first
    assert scene.worker.seal.not_after > first.not_after + timedelta(days=4)


def test_devices_take_what_the_old_seal_signed_while_the_new_one_is_used(scene: Scene) -> None:
    now = scene.worker.seal.not_after - timedelta(days=1)
    old = scene.beacon(now)
    scene.worker.renew(now)
    new = scene.beacon(now + timedelta(milliseconds=1))

    assert signer(old).serial_number != signer(new).serial_number
    for raw in (old, new, old):
        scene.hear(raw, now + timedelta(seconds=1))


def test_nothing_that_the_old_seal_signed_is_taken_after_its_end(scene: Scene) -> None:
    end = scene.worker.seal.not_after
    old = scene.beacon(end - timedelta(seconds=2))
    scene.hear(old, end - timedelta(seconds=1))

    with pytest.raises(Refused) as refused:
        scene.hear(old, end + timedelta(seconds=1))
    assert refused.value.code is Code.WRONG_SERVER


def test_a_token_that_is_away_for_the_whole_overlap_but_its_end_costs_nothing(scene: Scene) -> None:
    first = scene.worker.seal
    scene.authority.away = True
    tries = [first.not_after - RENEW_BEFORE + timedelta(hours=hour) for hour in range(1, 48)]
    for now in tries:
        scene.worker.renew(now)
        scene.hear(scene.beacon(now), now + timedelta(seconds=1))
    assert scene.worker.seal is first

    scene.authority.away = False
    scene.worker.renew(tries[-1] + RENEW_AGAIN)

    assert scene.worker.seal.not_after > first.not_after
    last = tries[-1] + RENEW_AGAIN
    scene.hear(scene.beacon(last), last + timedelta(seconds=1))


def test_each_seal_has_a_key_of_its_own_and_says_who_it_is_with_it(scene: Scene) -> None:
    first = scene.worker.seal
    scene.worker.renew(first.not_after - timedelta(days=1))
    second = scene.worker.seal

    assert first.thumbprint != second.thumbprint
    assert first.identity != second.identity
    assert signer(second.identity.encode()).not_valid_after_utc == second.not_after


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(load(folder))


@given(st.timedeltas(timedelta(0), timedelta(days=3649)))
def test_no_seal_ever_lives_longer_than_seven_days(authority: Authority, folder: Path, later: timedelta) -> None:
    now = datetime.now(UTC) + later
    made = authority.own_seal(now)
    leaf = signer(made.identity.encode())

    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= LIFE
    assert made.not_after == leaf.not_valid_after_utc <= now + LIFE
    chain = own_anchors(load(folder)).verify(chain_of(made.seal.header_segment), now)
    assert server_signer(chain).not_after == made.not_after
