"""What is released is told as it was verified, and nothing of it where one file does not hold."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.exceptions import (
    BadVersionNumberError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import TargetFile

from fleetward_broker.signers import make_key
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import Alg
from fleetward_schemas.strict import b64url
from fleetward_server.config import Config
from fleetward_server.releases import making
from fleetward_server.releases.files import TIMESTAMP, NoRepository, Unverified
from fleetward_server.releases.making import public_of
from fleetward_server.releases.settings import ReleasesTable
from fleetward_server.releases.shelf import Target, in_force, open_repository, open_shelf
from fleetward_server.settings import ProviderTable
from tests.server.releaser import Maker
from tests.server.repository import DAY, NOW, Keyring, Repository, target
from tests.server.tufclient import Client

DIGEST = hashlib.sha256(b"firmware")


@pytest.fixture(scope="module")
def made() -> Repository:
    repository = Repository()
    repository.release(
        target("fw/slap-7.bin", models=["Acme/Slap-4"]),
        target("fw/slap-8.bin", models=["Acme/Slap-4"], counter=8, version="1.5.0"),
        target("fw/iris-9.bin", models=["Acme/Iris-1"], counter=9),
        target("agent.whl", name="agent", counter=3),
    )
    return repository


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path, ProviderTable("Acme", "acme", Environment.DEVELOPER))


def test_a_target_is_told_as_the_assignment_wants_it(made, config):
    made.write(config.folder)
    url = f"https://localhost:8884/targets/fw/{DIGEST.hexdigest()}.slap-8.bin"
    wanted = Target(
        "fw/slap-8.bin", "firmware", 8, "1.5.0", ("Acme/Slap-4",), b64url(DIGEST.digest()), len(b"firmware"), url
    )
    assert open_shelf(config).targets["fw/slap-8.bin"] == wanted


def test_bytes_may_be_elsewhere_all_or_one(made, config):
    made.write(config.folder)
    (config.folder / "releases" / "urls.json").write_text(json.dumps({"agent.whl": "https://pypi.example/agent.whl"}))
    config = replace(config, releases=ReleasesTable(base_url="https://cdn.example/a/"))
    shelf = open_shelf(config)
    assert shelf.targets["fw/slap-7.bin"].url == f"https://cdn.example/a/fw/{DIGEST.hexdigest()}.slap-7.bin"
    assert shelf.targets["agent.whl"].url == "https://pypi.example/agent.whl"


def test_the_newest_for_a_model_is_of_that_model_or_of_all(made, config):
    made.write(config.folder)
    shelf = open_shelf(config)
    newest = {model: shelf.newest("firmware", model) for model in ("Acme/Slap-4", "Acme/Iris-1", "Acme/Face-1")}
    assert {model: one and one.path for model, one in newest.items()} == {
        "Acme/Slap-4": "fw/slap-8.bin",
        "Acme/Iris-1": "fw/iris-9.bin",
        "Acme/Face-1": None,
    }
    agent = shelf.newest("agent", "Acme/Face-1")
    assert agent is not None
    assert agent.path == "agent.whl"


def test_without_a_repository_there_is_no_shelf(config):
    with pytest.raises(NoRepository, match="release init"):
        open_shelf(config)


def forged_bin(repository: Repository) -> None:
    repository.put("bin-00", 2, making.signed(making.one_bin(2, {}, NOW + DAY), [make_key(Alg.EDDSA)]))
    repository.publish()


def rolled_back_bin(repository: Repository) -> None:
    repository.put("bin-00", 2, repository.files["1.bin-00"])
    repository.publish()


def missing_bin(repository: Repository) -> None:
    del repository.versions["bin-00"]
    repository.publish()


def swapped_snapshot(repository: Repository) -> None:
    repository.publish()
    repository.files[f"{repository.number}.snapshot"] = repository.files["1.snapshot"]


def resigned_snapshot(repository: Repository) -> None:
    """By its own key, but not the one that timestamp names: only the hash tells."""
    repository.publish()
    made = making.snapshot(repository.number, repository.versions, NOW + DAY)
    repository.files[f"{repository.number}.snapshot"] = making.signed(made, [repository.keys.snapshot])


def root_of_one(repository: Repository) -> None:
    repository.files["2.root"] = making.signed(repository.keys.new_root(2), repository.keys.root[:1])


def root_of_others(repository: Repository) -> None:
    others = Keyring()
    repository.files["2.root"] = making.signed(others.new_root(2), others.root)


def root_of_a_number(repository: Repository) -> None:
    repository.files["2.root"] = repository.files["1.root"]


def target_at_the_top(repository: Repository) -> None:
    targets = making.targets(2, public_of(repository.keys.release.public_key()), NOW + DAY)
    targets.targets["x"] = target("x")
    repository.put("targets", 2, making.signed(targets, [repository.keys.release]))
    repository.publish()


def nameless(repository: Repository) -> None:
    repository.release(TargetFile(3, {"sha256": "00" * 32}, "x"))


def hashed_otherwise(repository: Repository) -> None:
    wanted = target("x")
    repository.release(TargetFile(3, {"sha512": "00" * 64}, "x", wanted.unrecognized_fields))


def too_long(repository: Repository) -> None:
    repository.release(target("x", note="n" * 20_480))


@pytest.mark.parametrize(
    "break_it",
    [
        forged_bin,
        rolled_back_bin,
        missing_bin,
        swapped_snapshot,
        resigned_snapshot,
        root_of_one,
        root_of_others,
        root_of_a_number,
        target_at_the_top,
        nameless,
        hashed_otherwise,
        too_long,
    ],
)
def test_what_does_not_hold_is_no_shelf(config, break_it):
    repository = Repository()
    repository.write(config.folder)
    assert open_shelf(config).targets == {}
    break_it(repository)
    repository.write(config.folder)
    with pytest.raises(Unverified):
        open_shelf(config)


IN_BIN_00 = next(path for path in map(str, range(5000)) if hashlib.sha256(path.encode()).hexdigest()[:2] == "00")


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (forged_bin, UnsignedMetadataError),
        (rolled_back_bin, BadVersionNumberError),
        (missing_bin, RepositoryError),
        (swapped_snapshot, LengthOrHashMismatchError),
        (resigned_snapshot, LengthOrHashMismatchError),
        (root_of_one, UnsignedMetadataError),
        (root_of_others, UnsignedMetadataError),
        (root_of_a_number, BadVersionNumberError),
    ],
)
def test_python_tuf_refuses_the_same_sets(tmp_path, break_it, error):
    """The whole one first: a client that has read it, and one that begins, both refuse what was broken."""
    repository = Repository()
    root = repository.files["1.root"]
    knowing = Client(tmp_path / "knowing", repository.files.get, root)
    assert knowing.find(IN_BIN_00) is None
    break_it(repository)
    for client in (knowing, Client(tmp_path / "beginning", repository.files.get, root)):
        with pytest.raises(error):
            client.find(IN_BIN_00)


def test_a_new_root_by_the_old_keys_and_its_own_is_followed(config):
    repository = Repository()
    before = repository.keys
    repository.keys = replace(before, root=[*before.root[:2], make_key(Alg.EDDSA)], timestamp=make_key(Alg.EDDSA))
    repository.files["2.root"] = making.signed(repository.keys.new_root(2), before.root[:2])
    repository.publish()
    repository.write(config.folder)
    assert open_shelf(config).whole.offline.root.version == 2
    repository.files["timestamp"] = making.signed(
        making.timestamp(9, repository.number, repository.files[f"{repository.number}.snapshot"], NOW + DAY),
        [before.timestamp],
    )
    repository.write(config.folder)
    with pytest.raises(Unverified, match="timestamp"):
        open_shelf(config)


def test_a_set_that_is_followed_while_it_is_read_is_read_anew(maker: Maker) -> None:
    old = dict(open_repository(maker.provider).files)
    maker.release()
    new = dict(open_repository(maker.provider).files)
    said = iter([old[TIMESTAMP], old[TIMESTAMP]])

    def read(name: str) -> bytes | None:
        return next(said, new[name]) if name == TIMESTAMP else new.get(name)

    assert dict(in_force(read, new["1.root"]).files) == new
    with pytest.raises(Unverified):
        in_force({**new, TIMESTAMP: old[TIMESTAMP]}.get, new["1.root"])
