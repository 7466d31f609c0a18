"""Roots in a row: keys are replaced, the stolen ones too, and whoever knew any root follows, python-tuf as well."""

import json
import shutil
from datetime import timedelta

import pytest
from tuf.api.exceptions import UnsignedMetadataError

from fleetward_schemas.jws import PrivateKey
from fleetward_server.config import load
from fleetward_server.lines import alone
from fleetward_server.locks import Busy
from fleetward_server.problem import Kind
from fleetward_server.releases import making, online, publishing
from fleetward_server.releases.files import Unverified
from fleetward_server.releases.keys import KEYS, OfflineKeys, make_offline, make_online, open_offline
from fleetward_server.releases.making import public_of
from fleetward_server.releases.proving import root_file
from fleetward_server.releases.rotating import Rotated, Wish, rotate
from fleetward_server.releases.shelf import open_repository
from tests.server.releaser import SECRET, Maker, refused


def turn(maker: Maker, *away: str, wallets: tuple[OfflineKeys, ...] = (), new_online_keys: bool = False) -> Rotated:
    """Rotate the root and publish it."""
    maker.operator.ask_renewal(maker.exchange, new_online_keys=new_online_keys)
    done = rotate(Wish(wallets or (maker.keys,), away, SECRET), maker.exchange, maker.now)
    assert maker.publish().root == done.version
    return done


def apart(maker: Maker, *names: str, into: str) -> OfflineKeys:
    """Take root keys out of the folder, into a folder of their own: another person keeps them."""
    folder = maker.folder / into
    folder.mkdir()
    uris = json.loads((maker.keys_folder / KEYS).read_text())
    gone = [f"file:{name}.key.pem" for name in names]
    for name in names:
        shutil.move(maker.keys_folder / f"{name}.key.pem", folder)
    (folder / KEYS).write_text(json.dumps({"root": gone}))
    uris["root"] = [one for one in uris["root"] if one not in gone]
    (maker.keys_folder / KEYS).write_text(json.dumps(uris))
    return open_offline(folder, SECRET)


def key_id(key: PrivateKey) -> str:
    return public_of(key.public_key()).keyid


def test_a_root_is_renewed_with_the_same_keys(maker):
    client = maker.client()
    path = maker.release()
    client.find(path)
    maker.now += timedelta(days=1)
    before = open_repository(maker.config.folder).offline.root
    done = turn(maker)
    after = open_repository(maker.config.folder).offline.root
    assert (done.gone, done.come, after.version) == ((), (), 2)
    assert after.expires > before.expires
    assert client.find(path) is not None


def test_whoever_knew_any_root_follows_to_the_newest(maker):
    path = maker.release()
    folder = maker.provider / "releases" / "metadata"
    roots = [(folder / "1.root.json").read_bytes()]
    for away in ((), ("root-1",), ("root-2",)):
        turn(maker, *away)
        roots.append(root_file(maker.config.folder)[1])
    for number, root in enumerate(roots):
        client = maker.client(f"knows-{number}")
        client.root = root
        assert client.find(path) is not None
    assert {f"{number}.root" for number in (1, 2, 3, 4)} <= open_repository(maker.config.folder).files.keys()


def test_a_root_key_that_was_taken_back_signs_no_root_any_more(maker):
    stolen = maker.keys.named()["root-1"]
    done = turn(maker, "root-1")
    assert (done.gone, len(done.come)) == ((key_id(stolen),), 1)
    others = [key for name, key in maker.keys.named().items() if name.startswith("root")]
    assert len(others) == 3
    forged = making.root(3, _roles(maker), maker.now + timedelta(days=9))
    raw = making.signed(forged, [stolen, others[0]])
    client = maker.client()
    read = client.fetcher.read
    client.fetcher.read = lambda name: raw if name == "3.root" else read(name)
    with pytest.raises(UnsignedMetadataError):
        client.find("x")
    client.fetcher.read = read
    assert client.find("x") is None


def _roles(maker: Maker) -> making.RoleKeys:
    root = open_repository(maker.config.folder).offline.root
    keys = {role: [root.keys[one] for one in root.roles[role].keyids] for role in root.roles}
    return making.RoleKeys(keys, root.roles["root"].threshold)


def test_a_release_key_that_was_taken_back_ships_nothing_any_more(maker):
    stolen = maker.keys.release
    assert stolen is not None
    path = maker.release(7)
    client = maker.client()
    client.find(path)
    done = turn(maker, "release")
    assert key_id(stolen) in done.gone
    assert len(done.files) == 258
    assert client.find(path) is not None
    whole = open_repository(maker.config.folder)
    role = whole.offline.bin_of(path)
    version = whole.offline.versions()[role] + 1
    forged = making.signed(making.one_bin(version, {}, maker.now + timedelta(days=9)), [stolen])
    maker.ask(8)
    maker.sign()
    maker.exchange.lay("signed", {f"{version}.{role}": forged})
    refused(Kind.UNVERIFIED, maker.publish, f"{version}.{role}")
    assert maker.client("new").find(maker.release(9)) is not None


def test_below_the_threshold_no_root_is_made(maker):
    first = apart(maker, "root-2", "root-3", into="others")
    maker.operator.ask_renewal(maker.exchange)
    alone = Wish((maker.keys,), (), SECRET)
    refused(Kind.INVALID, lambda: rotate(alone, maker.exchange, maker.now), "1 of the 2 root keys", "--keys")
    assert not maker.exchange.signed.exists()
    assert turn(maker, wallets=(maker.keys, first)).version == 2


def test_keys_of_two_people_make_a_root_together(maker):
    second = apart(maker, "root-2", into="second")
    apart(maker, "root-3", into="lost")
    root = open_repository(maker.config.folder).offline.root
    here = {key_id(key) for wallet in (maker.keys, second) for key in wallet.root}
    (lost,) = set(root.roles["root"].keyids) - here
    done = turn(maker, lost[:12], wallets=(maker.keys, second))
    assert done.gone == (lost,)
    assert len(done.come) == 1
    assert maker.client().find("x") is None


def test_the_online_keys_are_replaced_by_a_root_and_the_old_ones_say_nothing(maker):
    path = maker.release()
    old = online.open_online(maker.config)
    client = maker.client()
    client.find(path)
    done = turn(maker, new_online_keys=True)
    assert set(done.gone) == {key_id(key) for key in old.values()}
    config = load(maker.provider)
    assert config.releases.snapshot_key == "file:releases/keys/snapshot-v2.key.pem"
    assert client.find(path) is not None
    assert online.renew(config, maker.now + timedelta(hours=20))
    whole = open_repository(maker.provider)
    forged = online.both(whole.offline, online.numbers(whole), old, maker.now)
    read = client.fetcher.read
    client.fetcher.read = lambda name: forged.get(name) or read(name)
    with pytest.raises(UnsignedMetadataError):
        client.find(path)


def test_its_keys_are_not_written_down_while_another_changes_the_provider_s(maker, monkeypatch):
    """Both rewrite ``fleetward.toml``: the later of two that read it at once would undo the earlier."""
    monkeypatch.setattr(publishing, "CHANGE_S", 0)
    maker.operator.ask_renewal(maker.exchange, new_online_keys=True)
    rotate(Wish((maker.keys,), (), SECRET), maker.exchange, maker.now)
    before = maker.config.releases
    with alone(maker.config), pytest.raises(Busy):
        maker.publish()
    assert load(maker.provider).releases == before
    maker.publish()
    assert load(maker.provider).releases.snapshot_key == "file:releases/keys/snapshot-v2.key.pem"


def test_a_server_with_keys_that_the_root_does_not_name_says_nothing(maker):
    """Nothing is written that nobody would believe; what is in force stays."""
    before = dict(open_repository(maker.provider).files)
    for name in ("snapshot", "timestamp"):
        (maker.provider / "releases" / "keys" / f"{name}.key.pem").unlink()
    make_online(maker.config)
    with pytest.raises(Unverified, match="0/1"):
        online.renew(maker.config, maker.now + timedelta(days=4))
    assert open_repository(maker.provider).files == before


@pytest.mark.parametrize("name", ["root-9", "", "0", "timestamp"])
def test_a_key_that_is_none_of_the_root_cannot_be_replaced(maker, name):
    maker.operator.ask_renewal(maker.exchange)
    refused(Kind.INVALID, lambda: rotate(Wish((maker.keys,), (name,), SECRET), maker.exchange, maker.now), "root-1")


def test_a_root_of_others_is_not_taken_in(maker, tmp_path):
    others = make_offline(tmp_path / "K9", 3, 2, SECRET)
    roles = _roles(maker)
    keys = dict(roles.keys) | {"root": [public_of(key.public_key()) for key in others.root]}
    forged = making.root(2, making.RoleKeys(keys, 2), maker.now + timedelta(days=9))
    maker.exchange.lay("signed", {"2.root": making.signed(forged, others.root)})
    refused(Kind.UNVERIFIED, maker.publish, "2.root")
    assert open_repository(maker.provider).offline.root.version == 1


def test_the_copy_beside_the_keys_has_every_root_and_the_newest_of_all_else(maker):
    maker.release(7)
    turn(maker, "release")
    turn(maker, "root-1")
    kept = {path.name for path in maker.keys.copy.iterdir()}
    offline = open_repository(maker.provider).offline
    wanted = {f"{number}.{role}.json" for role, number in offline.versions().items()}
    assert kept == wanted | {"1.root.json", "2.root.json", "3.root.json"}


def test_a_root_that_skips_a_version_is_not_taken_in(maker):
    forged = making.root(3, _roles(maker), maker.now + timedelta(days=9))
    raw = making.signed(forged, maker.keys.root)
    maker.exchange.lay("signed", {"3.root": raw})
    refused(Kind.CONFLICT, maker.publish)
    maker.exchange.lay("signed", {"2.root": raw})
    refused(Kind.UNVERIFIED, maker.publish, "says version 3")
