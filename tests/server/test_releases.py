"""From a file to a target that exists: asked for, signed beside the offline keys, taken in, and read by python-tuf."""

import hashlib
import json
import shutil
from datetime import timedelta

import pytest
from tuf.api.exceptions import BadVersionNumberError, ExpiredMetadataError

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.upgrade import Custom
from fleetward_server.problem import Kind
from fleetward_server.releases import making, online, signing
from fleetward_server.releases.init import Wish
from fleetward_server.releases.keys import open_offline
from fleetward_server.releases.operating import Releaser
from fleetward_server.releases.request import Exchange
from fleetward_server.releases.rules import Heights
from fleetward_server.releases.shelf import open_repository, open_shelf
from fleetward_server.store import AuditFilter
from tests.server.releaser import SECRET, SLAP, refused

IRIS = "Acme/Iris-1"


def test_a_new_repository_is_empty_and_python_tuf_reads_it(maker):
    assert open_shelf(maker.config).targets == {}
    assert maker.client().find("firmware/1.7/fw.bin") is None


def test_what_was_signed_and_published_is_found_by_python_tuf(maker):
    path = maker.release()
    found = maker.client().find(path)
    assert found is not None
    assert found.custom == {"name": "firmware", "counter": 7, "version": "1.7", "models": [SLAP]}
    found.verify_length_and_hashes(b"firmware")
    assert open_shelf(maker.config).targets[path].counter == 7


def test_its_bytes_lie_where_python_tuf_looks_for_them(maker):
    found = maker.client().find(maker.release())
    assert found is not None
    (prefixed,) = found.get_prefixed_paths()
    assert (maker.folder / "p" / "releases" / "targets" / prefixed).read_bytes() == b"firmware"


def test_a_client_that_knows_the_set_reads_two_files(maker):
    client = maker.client()
    client.find(maker.release())
    client.fetcher.asked.clear()
    client.find("firmware/1.7/fw.bin")
    assert client.fetcher.asked == ["2.root", "timestamp"]


def test_each_step_is_in_the_audit_with_its_actor(maker):
    path = maker.release()
    links = maker.operator.audit_links(AuditFilter(), 0, 100)
    acts = [(one.entry.actor, one.entry.action) for one in links if one.entry.subject in {path, "releases"}]
    assert acts == [
        ("operator:test", "release-repository-made"),
        ("operator:test", "release-requested"),
        ("operator:test", "released"),
        ("operator:test", "release-published"),
    ]


def test_the_exchange_may_be_a_stick(maker):
    maker.ask()
    shutil.copytree(maker.exchange.folder, maker.folder / "stick")
    stick = Exchange(maker.folder / "stick")
    assert len(maker.sign(stick)) == 1
    assert [one.path for one in maker.publish(stick).released] == ["firmware/1.7/fw.bin"]


def test_a_person_is_shown_what_is_signed(maker):
    maker.ask()
    (line,) = signing.told(signing.prepare(maker.keys, maker.exchange, maker.now))
    said = "firmware 1.7, counter 7, for Acme/Slap-4"
    digest = hashlib.sha256(b"firmware").hexdigest()
    assert line == f"release   firmware/1.7/fw.bin: {said}; sha256 {digest}, 8 bytes"


@pytest.mark.parametrize(("counter", "models"), [(7, (SLAP,)), (6, (SLAP,)), (6, ()), (7, (IRIS, SLAP))])
def test_a_counter_that_does_not_rise_for_some_device_is_refused(maker, counter, models):
    maker.release(7)
    refused(Kind.HELD, lambda: maker.ask(counter, version="again", models=models), "higher")


@pytest.mark.parametrize(
    ("counter", "changes"), [(8, {}), (7, {"models": (IRIS,)}), (1, {"name": "agent"}), (8, {"models": ()})]
)
def test_a_counter_that_rises_for_each_of_its_devices_is_taken(maker, counter, changes):
    maker.release(7)
    path = maker.release(counter, version="again", **changes)
    assert maker.client().find(path) is not None


def test_the_same_rule_holds_beside_the_offline_keys(maker):
    """A host that was broken into asks for what its own software would have refused."""
    maker.release(7)
    maker.ask(8)
    path = maker.exchange.folder / "request.json"
    asked = json.loads(path.read_text())
    asked["add"][0]["custom"]["counter"] = 7
    path.write_text(json.dumps(asked))
    refused(Kind.HELD, maker.sign, "counter 7")


def test_what_was_withdrawn_still_counts_beside_the_offline_keys(maker):
    path = maker.release(7)
    maker.operator.ask_withdrawal(path, maker.exchange, "")
    maker.sign()
    assert [one.path for one in maker.publish().withdrawn] == [path]
    assert maker.client().find(path) is None
    assert not list((maker.folder / "p" / "releases" / "targets").rglob("*.bin"))
    maker.ask(7, version="again")
    refused(Kind.HELD, maker.sign, "counter 7")
    maker.exchange.clear()
    assert maker.client().find(maker.release(8)) is not None


def test_what_is_released_never_changes(maker):
    path = maker.release(7)
    refused(Kind.CONFLICT, lambda: maker.ask(8, content=b"other", path=path), "never changes")


def test_only_what_is_released_can_be_withdrawn(maker):
    refused(Kind.NOT_FOUND, lambda: maker.operator.ask_withdrawal("x", maker.exchange, ""), "release list")


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "../../etc/passwd"},
        {"path": "/etc/passwd"},
        {"path": "a/../b"},
        {"path": "x" * 129},
        {"name": "Firm Ware"},
        {"counter": 0},
        {"version": ""},
        {"url": "http://plain.example/fw"},
        {"content": b""},
    ],
)
def test_what_no_device_could_be_told_is_not_asked_for(maker, changes):
    refused(Kind.INVALID, lambda: maker.ask(**{"counter": 7, **changes}), "no lawful target")
    assert maker.exchange.request.add == []


def test_a_bin_that_would_not_fit_in_an_envelope_is_refused(maker):
    offline = open_repository(maker.config.folder).offline
    first, second, third, *_ = (path for path in map(str, range(5000)) if offline.bin_of(path) == "bin-00")
    models = tuple(f"Acme/{number}-{'m' * 100}" for number in range(64))
    maker.ask(1, path=first, models=models, name="a")
    maker.ask(1, path=second, models=models, name="b")
    refused(Kind.INVALID, lambda: maker.ask(1, path=third, models=models, name="c"), "bin-00", "another bin")
    maker.sign()
    maker.publish()
    assert maker.client().find(second) is not None
    assert maker.client().find(third) is None


def test_other_bytes_than_were_asked_for_are_not_signed(maker):
    maker.ask()
    (path,) = (maker.exchange.folder / "files").iterdir()
    path.write_bytes(b"firmwarE")
    refused(Kind.UNVERIFIED, maker.sign, "not the bytes")


def test_other_bytes_than_were_signed_are_not_published(maker):
    maker.ask()
    maker.sign()
    (path,) = (maker.exchange.folder / "files").iterdir()
    path.write_bytes(b"firmwarE")
    refused(Kind.UNVERIFIED, maker.publish, "other bytes")
    path.write_bytes(b"firmware")
    assert len(maker.publish().released) == 1


def test_bytes_that_others_serve_are_signed_and_not_kept(maker):
    path = maker.release(7, url="https://cdn.example/fw.bin")
    assert open_shelf(maker.config).targets[path].url == "https://cdn.example/fw.bin"
    assert not list((maker.folder / "p" / "releases").rglob("*.fw.bin"))


def test_nothing_signed_is_nothing_published(maker):
    maker.ask()
    refused(Kind.CONFLICT, maker.publish, "was it signed")


def test_published_again_it_is_told_and_nothing_changes(maker):
    maker.ask()
    maker.sign()
    shutil.copytree(maker.exchange.folder, maker.folder / "stick")
    maker.publish()
    before = open_repository(maker.config.folder).files
    refused(Kind.CONFLICT, lambda: maker.publish(Exchange(maker.folder / "stick")))
    assert open_repository(maker.config.folder).files == before


def test_what_was_signed_and_got_lost_goes_along_again(maker):
    first = maker.ask(7)
    maker.sign()
    shutil.rmtree(maker.exchange.signed)
    second = maker.ask(8)
    assert len(maker.sign()) == 2
    assert {one.path for one in maker.publish().released} == {first, second}


def test_an_older_set_carried_to_the_keys_takes_nothing_back(maker):
    """C8: a stolen host shows the keys a set of yesterday; what they signed since stays signed."""
    first = maker.ask(7)
    old = dict(open_repository(maker.config.folder).files)
    maker.sign()
    maker.publish()
    maker.ask(8)
    maker.exchange.lay("metadata", old)
    maker.sign()
    maker.publish()
    assert maker.client().find(first) is not None


def test_a_set_of_other_keys_is_not_signed_on(maker, founded, tmp_path):
    with Releaser(shutil.copytree(founded / "p", tmp_path / "other"), "test") as other:
        shutil.rmtree(tmp_path / "other" / "releases")
        other.make_repository(Wish(tmp_path / "K2", SECRET))
        maker.ask()
        maker.exchange.lay("metadata", open_repository(tmp_path / "other").files)
    refused(Kind.UNVERIFIED, maker.sign)


def test_one_version_with_two_contents_is_refused(maker):
    """Two copies of the offline keys signed on without each other."""
    shutil.copytree(maker.folder / "K", maker.folder / "K2")
    maker.release(7)
    shutil.rmtree(maker.folder / "K")
    (maker.folder / "K2").rename(maker.folder / "K")
    role = open_repository(maker.config.folder).offline.bin_of("firmware/1.7/fw.bin")
    keys = maker.keys
    assert keys.release is not None
    other = making.signed(making.one_bin(2, {}, maker.now + timedelta(days=9)), [keys.release])
    keys.keep({f"2.{role}": other})
    maker.ask(8)
    refused(Kind.UNVERIFIED, maker.sign, f"2.{role}", "two files of one version")


def test_keys_that_missed_what_another_copy_signed_go_on_from_there(maker):
    shutil.copytree(maker.folder / "K", maker.folder / "K2")
    first = maker.release(7)
    shutil.rmtree(maker.folder / "K")
    (maker.folder / "K2").rename(maker.folder / "K")
    second = maker.release(8)
    assert all(maker.client().find(path) is not None for path in (first, second))


def test_a_forged_file_on_the_stick_is_not_taken_in(maker):
    maker.ask()
    (name,) = maker.sign()
    online_keys = online.open_online(maker.config)
    forged = making.signed(making.one_bin(2, {}, maker.now + timedelta(days=9)), [online_keys["snapshot"]])
    (maker.exchange.signed / f"{name}.json").write_bytes(forged)
    before = open_repository(maker.config.folder).files
    refused(Kind.UNVERIFIED, maker.publish, name, "0/1")
    assert open_repository(maker.config.folder).files == before


def test_what_ends_before_it_is_published_is_not_published(maker):
    maker.ask()
    maker.sign()
    maker.now += timedelta(days=91)
    refused(Kind.UNVERIFIED, maker.publish, "signed anew")


def test_what_a_clock_that_is_ahead_signed_is_not_published(maker):
    """Good for years, it would let who holds the fleet back do so for years."""
    maker.ask()
    maker.now += timedelta(days=400)
    maker.sign()
    maker.now -= timedelta(days=400)
    refused(Kind.UNVERIFIED, maker.publish, "clock")


def test_what_was_asked_for_since_the_copy_was_carried_away_stays_asked_for(maker):
    first = maker.ask(7)
    shutil.copytree(maker.exchange.folder, maker.folder / "stick")
    second = maker.ask(8, content=b"other")
    stick = Exchange(maker.folder / "stick")
    maker.sign(stick)
    maker.publish(stick)
    assert [one.path for one in maker.exchange.request.add] == [second]
    assert len(list((maker.exchange.folder / "files").iterdir())) == 1
    assert list(stick.folder.iterdir()) == []
    maker.sign()
    maker.publish()
    assert all(maker.client().find(path) is not None for path in (first, second))
    assert list(maker.exchange.folder.iterdir()) == []


def test_what_ends_soon_is_signed_anew_by_a_renewal(maker):
    maker.now += timedelta(days=46)
    maker.operator.ask_renewal(maker.exchange)
    assert len(maker.sign()) == 257
    maker.publish()
    ends = open_repository(maker.config.folder).ends()
    assert min(ends[role] for role in ends if role.startswith("bin")) > maker.now + timedelta(days=89)
    maker.operator.ask_renewal(maker.exchange)
    assert maker.sign() == ()


def test_a_wrong_passphrase_opens_nothing(maker):
    with pytest.raises(KeyUnavailable, match="another passphrase"):
        open_offline(maker.folder / "K", b"incorrect horse")


def test_no_offline_key_lies_open(maker):
    for path in (maker.folder / "K").glob("*.key.pem"):
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
        assert path.stat().st_mode & 0o077 == 0


def test_no_offline_key_is_at_the_host(maker):
    for path in (maker.folder / "K").glob("*.key.pem"):
        assert not any(one.read_bytes() == path.read_bytes() for one in (maker.folder / "p").rglob("*.pem"))


@pytest.mark.parametrize(
    ("hours", "files"), [(0, set()), (11, set()), (13, {"timestamp"}), (84, {"snapshot", "timestamp"})]
)
def test_the_online_roles_are_said_anew_at_half_their_life(maker, hours, files):
    maker.release()
    before = open_repository(maker.config.folder)
    now = maker.now + timedelta(hours=hours, seconds=1)
    assert online.renew(maker.config, now) is bool(files)
    after = open_repository(maker.config.folder)
    changed = {role for role, end in after.ends().items() if end != before.ends()[role]}
    assert changed == files
    assert after.ends()["timestamp"] > now


def test_a_renewed_set_is_read_by_a_client_that_knew_the_one_before(maker):
    path = maker.release()
    client = maker.client()
    client.find(path)
    online.renew(maker.config, maker.now + timedelta(hours=20))
    assert client.find(path) is not None
    assert client.fetcher.asked[-1] == "timestamp"


def test_python_tuf_refuses_our_set_of_yesterday(maker):
    maker.release(7)
    old = dict(open_repository(maker.config.folder).files)
    client = maker.client()
    client.find(maker.release(8))
    client.fetcher.read = old.get
    with pytest.raises(BadVersionNumberError):
        client.find("firmware/1.7/fw.bin")


def test_python_tuf_refuses_a_set_whose_timestamp_has_ended(maker):
    maker.now -= timedelta(days=2)
    maker.release(7)
    with pytest.raises(ExpiredMetadataError):
        maker.client().find("firmware/1.7/fw.bin")


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ((), (SLAP,), True),
        ((SLAP,), (), True),
        ((SLAP, IRIS), (SLAP,), True),
        ((IRIS,), (SLAP,), False),
        ((), (), True),
    ],
)
def test_two_targets_share_a_device_where_their_models_meet(one, other, share):
    first, second = (
        Custom(name="firmware", counter=1, version="1", models=list(models) or None) for models in (one, other)
    )
    assert (Heights([first]).above(second) is not None) is share
