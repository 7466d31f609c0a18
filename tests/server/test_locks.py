"""Several who work in one folder: what one changed no other undoes, and nobody waits for another without end."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_broker.mosquitto import Listen
from fleetward_server import backup, brokers, lines, offices, revocation
from fleetward_server.config import Config, load
from fleetward_server.generations import in_office
from fleetward_server.init import Wish
from fleetward_server.lines import alone
from fleetward_server.locks import COPY_S, Busy, held
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import online
from fleetward_server.releases.duty import ReleaseDuty
from fleetward_server.store import open_store
from fleetward_server.succession import forget_root
from tests.ready import ready_provider
from tests.server.releaser import Maker

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ready_provider(tmp_path / "p", Wish(), NOW)
    return tmp_path / "p"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, backup, brokers):
        monkeypatch.setattr(module, "CHANGE_S", 0)


def rotate(config: Config, office: str) -> str:
    with open_store(config.store_path) as store:
        return offices.rotate(config, store, office, NOW).stem


@pytest.mark.parametrize("office", ["device-ca", "service-ca"])
def test_what_was_decided_by_keys_that_changed_since_is_not_done(folder: Path, office: str) -> None:
    before = load(folder)
    first = rotate(before, "device-ca")
    text = (folder / "fleetward.toml").read_bytes()
    with pytest.raises(OperatorProblem, match="changed meanwhile") as refused:
        rotate(before, office)
    assert refused.value.kind is Kind.CONFLICT
    with pytest.raises(Busy, match="changed meanwhile"):
        forget_root(before)
    # Its key is there, and who was in office before goes on to be known.
    assert (folder / "fleetward.toml").read_bytes() == text
    assert in_office(load(folder), "device-ca")[1].stem == first
    assert rotate(load(folder), office) != first
    assert "device-ca" in load(folder).keys.former


def backed_up(config: Config) -> None:
    with alone(config):
        backup.create(config, config.folder.parent / "b.tar", None, NOW, without_keys=True)


def rotated(config: Config) -> None:
    with alone(config):
        LocalOperator(config.folder, "eve").rotate_authority("broker", "")


def listed(config: Config) -> None:
    with held(config.pki / "crl" / revocation.LOCK, 0, "x"), open_store(config.store_path) as store:
        revocation.publish(config, store, NOW, 0)


@pytest.mark.parametrize("act", [backed_up, rotated, listed])
def test_who_finds_another_at_it_is_told_and_changes_nothing(folder: Path, act: Callable[[Config], None]) -> None:
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*.pem"))
    with pytest.raises((Busy, OperatorProblem), match=r"another process is (changing keys|writing revocation lists)"):
        act(load(folder))
    assert sorted(path.stat().st_mtime_ns for path in folder.rglob("*.pem")) == before
    assert not (folder.parent / "b.tar").exists()


def test_a_lock_is_had_once_it_is_free(tmp_path: Path) -> None:
    with held(tmp_path / "x", 0, "waits"):
        pass
    with (
        held(tmp_path / "x", 0, "waits"),
        pytest.raises(Busy, match=f"{tmp_path}: another process waits; try again"),
        held(tmp_path / "x", 0, "waits"),
    ):
        pass


def test_devices_do_not_wait_for_who_copies_the_repository(maker: Maker) -> None:
    """The server's worker says the online roles anew, in the thread that answers devices."""
    duty, later = ReleaseDuty(maker.config), maker.now + timedelta(hours=20)
    with online.still(maker.provider):
        began = time.monotonic()
        assert not duty.look("seal", later, 0.0, may_renew=True)
        assert duty.warnings == ()
        with pytest.raises(Busy):
            online.renew(maker.config, later)
        assert time.monotonic() - began < COPY_S / 2
    assert online.renew(maker.config, later)


def test_two_who_ask_for_releases_at_once_are_both_heard(maker: Maker) -> None:
    """A request is read, added to and written: whoever wrote it in between would be forgotten."""
    with ThreadPoolExecutor(1) as pool:
        with online.alone(maker.provider):
            asked = pool.submit(maker.ask, 7)
            assert not wait([asked], 0.5).done
            maker.exchange.ask(maker.exchange.request.changed(withdraw=["another/1.0/fw.bin"]), {})
        assert asked.result(20) in {one.path for one in maker.exchange.request.add}
    assert maker.exchange.request.withdraw == ["another/1.0/fw.bin"]


def test_an_export_takes_no_certificate_without_its_key(folder: Path) -> None:
    config, out = load(folder), folder.parent / "out"
    listen = Listen("127.0.0.1", 8883)
    with alone(config), pytest.raises(Busy):
        brokers.export_mosquitto(config, out, out, listen)
    assert out / "broker.pem" in brokers.export_mosquitto(config, out, out, listen)
