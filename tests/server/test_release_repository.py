"""A repository as it stands: proven, made once, made again from a backup, and whole whatever breaks off."""

import shutil
from datetime import timedelta

import pytest

from fleetward_sandbox.provision import Order, provision
from fleetward_server import backup
from fleetward_server.problem import Kind
from fleetward_server.releases import online
from fleetward_server.releases.files import NoRepository, in_folder, open_set
from fleetward_server.releases.init import Wish
from fleetward_server.releases.proving import prove, root_file, standings
from fleetward_server.releases.shelf import open_repository, open_shelf
from fleetward_server.restore import Wish as RestoreWish
from fleetward_server.restore import restore
from tests.server.releaser import SECRET, Maker, refused


def test_what_is_there_is_proven_byte_for_byte(maker):
    maker.release()
    proof = prove(maker.config, maker.now)
    assert (proof.root, proof.targets, proof.bytes, proof.flaws) == (1, 1, 1, ())
    (place,) = (maker.folder / "p" / "releases" / "targets").rglob("*.bin")
    place.write_bytes(b"firmwarE")
    assert "other bytes" in prove(maker.config, maker.now).flaws[0]
    place.unlink()
    assert "not here" in prove(maker.config, maker.now).flaws[0]
    assert any("timestamp: ended" in flaw for flaw in prove(maker.config, maker.now + timedelta(days=2)).flaws)


@pytest.mark.parametrize(
    ("days", "soon"), [(0, set()), (59, {"timestamp", "snapshot"}), (61, {"timestamp", "snapshot", "bins", "targets"})]
)
def test_an_operator_is_told_before_offline_roles_end(maker, days, soon):
    now = maker.now + timedelta(days=days)
    assert {one.role for one in standings(maker.config.folder, now) if one.soon} == soon


def test_the_root_for_factories_is_the_newest(maker):
    raw = (maker.folder / "p" / "releases" / "metadata" / "1.root.json").read_bytes()
    assert root_file(maker.config.folder) == (1, raw)
    refused(Kind.NOT_FOUND, lambda: root_file(maker.config.folder, 2), "newest is 1")


def test_the_factory_puts_the_root_into_each_device_where_there_is_one(maker, provider):
    made = provision(maker.folder / "p", Order(2, maker.folder / "devices", first=7))
    raw = root_file(maker.config.folder)[1]
    assert [(one.folder / "release-root.json").read_bytes() for one in made] == [raw, raw]
    (without,) = provision(provider, Order(1, maker.folder / "others", first=9))
    assert not (without.folder / "release-root.json").exists()


def test_a_repository_is_made_once_and_keys_are_never_replaced(maker, tmp_path):
    refused(Kind.CONFLICT, lambda: maker.operator.make_repository(Wish(tmp_path / "K9", SECRET)), "already")
    shutil.rmtree(maker.folder / "p" / "releases")
    refused(Kind.CONFLICT, lambda: maker.operator.make_repository(Wish(maker.folder / "K", SECRET)), "already there")


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (4, 3), (1, 17)])
def test_a_threshold_that_cannot_be_is_refused(maker, tmp_path, threshold, count):
    shutil.rmtree(maker.folder / "p" / "releases")
    wish = Wish(tmp_path / "K9", SECRET, count, threshold)
    refused(Kind.INVALID, lambda: maker.operator.make_repository(wish), "threshold")
    assert not (tmp_path / "K9").exists()


def test_a_provider_made_again_from_a_backup_goes_on_and_what_it_lacks_comes_from_the_keys(maker, tmp_path):
    """Devices have read on since the backup: online roles do not go back, and offline files are carried again."""
    first = maker.release(7)
    backup.create(maker.config, tmp_path / "b", SECRET, maker.now, without_keys=False)
    client = maker.client()
    maker.now += timedelta(minutes=1)
    second = maker.release(8)
    assert client.find(second) is not None
    maker.operator.close()
    shutil.rmtree(maker.provider)
    restore(RestoreWish(tmp_path / "b", maker.provider, SECRET, (), "operator:test"), maker.now)
    again = Maker(maker.folder, maker.provider)
    again.now = maker.now + timedelta(minutes=1)
    assert open_shelf(again.config).targets.keys() == {first}
    again.ask(8, version="1.8")
    again.sign()
    again.publish()
    assert client.find(second) is not None
    assert prove(again.config, again.now).flaws == (f"{first}: its bytes are not here",)


def test_a_break_before_the_first_root_is_there_leaves_no_repository(maker):
    metadata = maker.folder / "p" / "releases" / "metadata"
    (metadata / "1.root.json").unlink()
    with pytest.raises(NoRepository):
        open_repository(maker.config.folder)


@pytest.mark.parametrize("kept", range(4))
def test_a_break_while_publishing_leaves_a_whole_set(maker, kept):
    """Whatever of the new files is there, the set that is in force is whole, and publishing again completes it."""
    path = maker.ask()
    maker.sign()
    shutil.copytree(maker.folder / "p", maker.folder / "before")
    maker.publish()
    after = maker.folder / "p" / "releases" / "metadata"
    whole = open_repository(maker.config.folder)
    role = whole.offline.bin_of(path)
    for name in [f"2.{role}", f"{online.numbers(whole).snapshot}.snapshot", "timestamp"][:kept]:
        shutil.copy(after / f"{name}.json", maker.folder / "before" / "releases" / "metadata")
    shutil.rmtree(maker.folder / "p")
    (maker.folder / "before").rename(maker.folder / "p")
    metadata = maker.folder / "p" / "releases" / "metadata"
    assert open_set(in_folder(metadata), (metadata / "1.root.json").read_bytes())
    if kept < 3:
        maker.publish()
    assert maker.client().find(path) is not None
