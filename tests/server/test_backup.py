"""A backup is whole or refused, holds no key in clear, and becomes a folder again or leaves nothing."""

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleetward_broker.signers import make_key
from fleetward_schemas.enrol import State
from fleetward_schemas.jws import Alg
from fleetward_server import audit, backup, client_id
from fleetward_server.authority import Authority
from fleetward_server.changes import AddAudit, AddCertificates, BindFtm, PutChallenge, PutDevice, RevokeCertificates
from fleetward_server.cli.app import build
from fleetward_server.config import load
from fleetward_server.init import Wish, make_provider
from fleetward_server.mass import MassOperator
from fleetward_server.mass_state import Action, MassWish
from fleetward_server.state import Certificate, Device
from fleetward_server.store import Store, journal, open_store
from fleetward_server.turn import IssuePair
from tests.server.register import challenge, device, entry

NOW = datetime.now(UTC)
SECRET = "a passphrase nobody guesses"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a provider's folder with a client id, to be copied."""
    folder = tmp_path_factory.mktemp("pristine") / "provider"
    make_provider(folder, Wish(port=0), NOW)
    client_id.client_id_of(folder)
    return folder


@pytest.fixture
def home(pristine: Path, tmp_path: Path) -> Path:
    """Return a folder with a provider that has one device, and a passphrase."""
    shutil.copytree(pristine, tmp_path / "provider")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "secret").chmod(0o600)
    with opened(tmp_path) as store:
        certify(tmp_path, store, device(1))
    return tmp_path


def opened(home: Path, name: str = "provider") -> Store:
    return open_store(home / name / "server.db")


def certify(home: Path, store: Store, row: Device) -> tuple[Certificate, Certificate]:
    """Register a device with certificates of its own, as an enrolment does."""
    keys = make_key(Alg.EDDSA).public_key(), make_key(Alg.EDDSA).public_key()
    wanted = IssuePair(row.id, f"hello of {row.id}", *keys, None)
    pair = Authority(load(home / "provider")).issue_pair(wanted, NOW)
    with store.unit() as unit:
        unit.apply([PutDevice(row)])
    with store.unit() as unit:
        unit.apply([AddCertificates(pair), AddAudit(entry("certified", subject=row.id))])
        if row.ftm_key is not None:
            unit.apply([BindFtm(row.ftm_key, row.id)])
    return pair


def run(*words: object) -> Result:
    return CliRunner().invoke(build(), list(map(str, words)))


def create(home: Path, *more: object, secret: bool = True) -> Result:
    words = ["backup", "create", "--dir", home / "provider", "--out", home / "b.tar", *more]
    return run(*words, *(["--passphrase-file", home / "secret"] if secret else []))


def lean(home: Path) -> Result:
    """Back up without keys, which cost time and are not what the test is about."""
    return create(home, "--without-keys")


def verify(home: Path, *, secret: bool = True) -> Result:
    return run("backup", "verify", home / "b.tar", *(["--passphrase-file", home / "secret"] if secret else []))


def restore(home: Path, *more: object, to: str = "new") -> Result:
    words = ["backup", "restore", home / "b.tar", "--dir", home / to, "--json"]
    return run(*words, "--passphrase-file", home / "secret", *more)


def members(home: Path) -> dict[str, bytes]:
    with tarfile.open(home / "b.tar") as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def rewrite(home: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Make the archive anew with other members."""
    found = members(home)
    change(found)
    with tarfile.open(home / "b.tar", "w") as tar:
        for name, raw in found.items():
            header = tarfile.TarInfo(name)
            header.size = len(raw)
            tar.addfile(header, io.BytesIO(raw))


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


def test_a_backup_holds_and_says_where_each_key_is(home: Path) -> None:
    assert create(home).exit_code == 0
    found = verify(home)
    assert found.exit_code == 0, found.output
    manifest = json.loads(members(home)["manifest.json"])
    assert {one["key"]: one["where"] for one in manifest["keys"]} == dict.fromkeys(
        ("root", "device_ca", "factory_ca", "service_ca"), "here"
    )
    assert manifest["audit"]["rows"] == 1


def test_no_key_stands_in_it_in_clear(home: Path) -> None:
    create(home)
    keys = [raw for raw in members(home).values() if b"PRIVATE KEY" in raw]
    assert len(keys) == 6
    assert all(b"ENCRYPTED PRIVATE KEY" in raw for raw in keys)


def test_it_is_the_owners_alone_and_takes_no_other_files_place(home: Path) -> None:
    create(home)
    assert (home / "b.tar").stat().st_mode & 0o777 == 0o600
    before = (home / "b.tar").read_bytes()
    assert create(home).exit_code == 5
    assert (home / "b.tar").read_bytes() == before


def test_key_files_want_a_passphrase_or_leave_to_go_without(home: Path) -> None:
    refused = create(home, secret=False)
    assert refused.exit_code == 6
    assert "--without-keys" in refused.output
    assert list(home.glob("*b.tar*")) == []
    assert create(home, "--without-keys", secret=False).exit_code == 0
    assert not any(b"PRIVATE KEY" in raw for raw in members(home).values())


@pytest.mark.parametrize(("text", "mode"), [("short", 0o600), (SECRET, 0o644)])
def test_a_passphrase_is_long_and_its_owners_alone(home: Path, text: str, mode: int) -> None:
    (home / "secret").write_text(text)
    (home / "secret").chmod(mode)
    assert create(home).exit_code == 2
    assert not (home / "b.tar").exists()


def test_a_copy_of_everything_is_in_the_audit(home: Path) -> None:
    made = create(home, "--json", "--actor", "eve", "--without-keys")
    with opened(home) as store:
        (link,) = store.history("server")
    assert (link.entry.actor, link.entry.action) == ("operator:eve", "backed-up")
    assert link.entry.detail == json.loads(made.stdout)["manifest"]


def test_what_is_written_meanwhile_does_not_disturb(home: Path) -> None:
    with opened(home) as store, store.unit() as unit:
        unit.apply([PutDevice(device(2))])
        backup.create(load(home / "provider"), home / "b.tar", None, NOW, without_keys=True)
    assert json.loads(members(home)["manifest.json"])["database"]["devices"] == 1


def test_each_member_that_was_changed_is_found(home: Path) -> None:
    create(home)
    good = (home / "b.tar").read_bytes()
    for name in members(home):
        rewrite(home, lambda found, name=name: found.update({name: flipped(found[name])}))  # type: ignore[misc]
        assert verify(home).exit_code == 7, name
        (home / "b.tar").write_bytes(good)
    assert verify(home).exit_code == 0


def test_what_was_changed_is_not_restored(home: Path) -> None:
    lean(home)
    rewrite(home, lambda found: found.update({"server.db": flipped(found["server.db"])}))
    assert restore(home).exit_code == 7
    assert [path.name for path in home.iterdir() if "new" in path.name] == []


@pytest.mark.parametrize("part", ["manifest.json", "seal.json", "server.db", "fleetward.toml", "pki/root.pem"])
def test_each_member_that_is_missing_is_found(home: Path, part: str) -> None:
    lean(home)
    rewrite(home, lambda found: found.pop(part) and None)
    assert verify(home).exit_code == 7


def test_a_member_more_is_found(home: Path) -> None:
    lean(home)
    rewrite(home, lambda found: found.update({"pki/more.pem": b""}))
    assert verify(home).exit_code == 7


@pytest.mark.parametrize("name", ["../out", "/etc/out", "pki/../../out", "./x"])
def test_no_member_leads_out_of_the_folder(home: Path, name: str) -> None:
    create(home, "--without-keys", secret=False)

    def lead_out(found: dict[str, bytes]) -> None:
        manifest = json.loads(found["manifest.json"])
        manifest["members"][0]["name"] = name
        forge(found, manifest)

    rewrite(home, lead_out)
    found = verify(home, secret=False)
    assert found.exit_code == 7
    assert "not a name inside" in found.output


def forge(found: dict[str, bytes], manifest: object) -> None:
    """Seal another manifest as anybody can who has no passphrase."""
    text = json.dumps(manifest).encode()
    seal = json.loads(found["seal.json"]) | {"sha256": hashlib.sha256(text).hexdigest()}
    found["manifest.json"], found["seal.json"] = text, json.dumps(seal).encode()


def test_a_manifest_sealed_by_somebody_else_is_found_with_the_passphrase(home: Path) -> None:
    lean(home)
    rewrite(home, lambda found: forge(found, json.loads(found["manifest.json"]) | {"created": "2026-01-01T00:00:00Z"}))
    assert verify(home).exit_code == 7


@pytest.mark.parametrize("kept", [0, 700, 0.3, 0.6, 0.9])
def test_a_file_cut_short_is_found(home: Path, kept: float) -> None:
    lean(home)
    whole = (home / "b.tar").read_bytes()
    (home / "b.tar").write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    assert verify(home).exit_code == 7
    assert restore(home).exit_code == 7
    assert [path.name for path in home.iterdir() if "new" in path.name] == []


def test_a_wrong_passphrase_is_told_and_leaves_nothing(home: Path) -> None:
    create(home)
    (home / "secret").write_text("another passphrase")
    refused = restore(home)
    assert refused.exit_code == 7
    assert "wrong passphrase" in refused.stderr
    assert [path.name for path in home.iterdir() if "new" in path.name] == []


def test_a_folder_that_holds_something_is_left_as_it_is(home: Path) -> None:
    lean(home)
    (home / "new").mkdir()
    (home / "new" / "mine").touch()
    assert restore(home).exit_code == 5
    assert [path.name for path in (home / "new").iterdir()] == ["mine"]


def at_schema(home: Path, revision: str) -> None:
    """Back the provider up as another version would."""
    with sqlite3.connect(home / "provider" / "server.db") as raw:
        raw.execute("update alembic_version set version_num = ?", (revision,))
    raw.close()
    backup.create(load(home / "provider"), home / "b.tar", SECRET.encode(), NOW, without_keys=True)


def test_a_newer_fleetwards_backup_holds_and_is_not_restored(home: Path) -> None:
    at_schema(home, "9999")
    assert verify(home).exit_code == 0
    refused = restore(home)
    assert refused.exit_code == 2
    assert "newer" in refused.stderr
    assert not (home / "new").exists()


def test_a_backup_before_the_migration_is_made_and_not_noted(home: Path) -> None:
    with sqlite3.connect(home / "provider" / "server.db") as raw:
        raw.execute("update alembic_version set version_num = '0000'")
    raw.close()
    assert lean(home).exit_code == 0


def test_a_database_that_does_not_hold_is_not_backed_up(home: Path) -> None:
    with sqlite3.connect(home / "provider" / "server.db") as raw:
        for (name,) in raw.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            raw.execute(f"drop trigger {name}")
        raw.execute("update audit set actor = 'nobody'")
    raw.close()
    refused = create(home)
    assert refused.exit_code == 7
    assert "audit: row 1" in refused.stderr
    assert not (home / "b.tar").exists()


def test_a_restored_folder_is_the_providers_and_opens(home: Path) -> None:
    create(home)
    assert restore(home).exit_code == 0

    old, new = load(home / "provider"), load(home / "new")
    Authority(new)
    assert new.provider == old.provider
    assert client_id.client_id_of(home / "new") == client_id.client_id_of(home / "provider")
    with opened(home, "new") as store:
        assert store.device(device(1).id) is not None
        assert audit.walk(store).broken is None
        assert store.history("server")[-1].entry.action == "restored"


def test_tags_come_back_and_an_act_on_many_goes_on(home: Path) -> None:
    with MassOperator(home / "provider", "eve") as eve:
        eve.tag(device(1).id, ["north"], [])
        wish = MassWish(Action.TAG, {"add": ["gate"], "remove": []}, "id:*", "moved")
        act = eve.begin_mass(wish, eve.device_ids(eve.selection(wish.filter)))
    lean(home)
    assert restore(home).exit_code == 0
    with MassOperator(home / "new", "ann") as ann:
        assert [one.id for one in ann.devices(ann.selection("tag:north"))] == [device(1).id]
        assert ann.continue_mass(act.id).done == len(ann.devices(ann.selection("tag:gate"))) > 0


def test_a_restored_folder_is_its_owners_alone(home: Path) -> None:
    create(home)
    restore(home)
    new = home / "new"
    modes = {path: path.stat().st_mode & 0o777 for path in (new, *new.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_restore_into_an_empty_folder_is_one(home: Path) -> None:
    lean(home)
    (home / "new").mkdir()
    assert restore(home).exit_code == 0


def test_keys_that_were_left_out_are_named(home: Path) -> None:
    create(home, "--without-keys")
    done = restore(home)
    assert done.exit_code == 0, done.stderr
    assert len(json.loads(done.stdout)["keys_missing"]) == 4
    assert "bring this key before up: device_ca" in done.stderr


def test_open_challenges_are_not_restored(home: Path) -> None:
    row = device(1)
    with opened(home) as store, store.unit() as unit:
        unit.apply([PutChallenge(challenge(expires_at=NOW + timedelta(minutes=9)))])
    lean(home)
    restore(home)
    with opened(home, "new") as store, store.unit() as unit:
        assert unit.challenge_of_hello(f"f-{row.id}", "hello") is None


def test_the_lost_window_is_told(home: Path) -> None:
    lean(home)
    done = restore(home)
    created = json.loads(members(home)["manifest.json"])["created"]
    assert datetime.fromisoformat(json.loads(done.stdout)["lost_since"]) == datetime.fromisoformat(created)
    assert "lost: what the server learnt since" in done.stderr
    assert "no --issued was given" in done.stderr


# What happened after the backup, told by the journal.


def after_backup(home: Path, *rows: Device) -> list[tuple[Certificate, Certificate]]:
    """Back up, then certify more devices."""
    lean(home)
    with opened(home) as store:
        return [certify(home, store, row) for row in rows]


def test_a_device_certified_after_the_backup_is_not_lost_with_the_journal(home: Path) -> None:
    row = device(2, ftm_key="its FTM")
    ((key, transport),) = after_backup(home, row)

    done = restore(home, "--issued", home / "provider" / "issued.log")

    assert json.loads(done.stdout)["devices_adopted"] == 1
    with opened(home, "new") as store, store.unit() as unit:
        assert unit.chains(row.id) == tuple(sorted((key, transport), key=lambda one: one.use))
        assert unit.ftm_owner("its FTM") == row.id
        assert unit.device(row.id).state is State.REGISTERED  # type: ignore[union-attr]


def test_without_the_journal_it_is_unknown(home: Path) -> None:
    after_backup(home, device(2))
    restore(home)
    with opened(home, "new") as store:
        assert store.device(device(2).id) is None


def test_keys_taken_in_a_rotation_after_the_backup_are_known(home: Path) -> None:
    ((key, _),) = after_backup(home, device(1))
    restore(home, "--issued", home / "provider" / "issued.log")
    with opened(home, "new") as store, store.unit() as unit:
        chains = unit.chains(device(1).id)
    assert key in chains
    assert len(chains) == 4


def test_the_journal_goes_on_in_the_new_folder(home: Path) -> None:
    after_backup(home, device(2))
    restore(home, "--issued", home / "provider" / "issued.log")
    shutil.rmtree(home / "provider")
    again = restore(home, "--issued", home / "new" / "issued.log", to="newer")
    assert json.loads(again.stdout)["certificates_adopted"] == 2


def test_a_device_put_out_after_the_backup_stays_out(home: Path) -> None:
    lean(home)
    row = device(1, state=State.REVOKED, changed_at=NOW)
    with opened(home) as store, store.unit() as unit:
        unit.apply([PutDevice(row), RevokeCertificates(row.id)])

    done = restore(home, "--issued", home / "provider" / "issued.log")

    assert json.loads(done.stdout)["devices_silenced"] == 1
    with opened(home, "new") as store:
        assert store.device(row.id).state is State.REVOKED  # type: ignore[union-attr]
        assert len(store.revoked_certificates(NOW)) == 2


def test_adopting_is_in_the_audit(home: Path) -> None:
    ((key, _),) = after_backup(home, device(2))
    restore(home, "--issued", home / "provider" / "issued.log", "--actor", "eve")
    with opened(home, "new") as store:
        entries = [link.entry for link in store.history(device(2).id)]
    assert [(one.actor, one.action) for one in entries] == [("operator:eve", "adopted")] * 2
    assert key.thumbprint in {one.detail for one in entries}


def doctored(line: bytes, **changes: object) -> bytes:
    return json.dumps(json.loads(line) | changes).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[: len(line) // 2],
        lambda line: doctored(line, id=device(3).id),
        lambda line: doctored(line, id=device(3).id, identity=device(3).identity.document()),
        lambda line: line.replace(b'"use":"device"', b'"use":"transport"'),
        lambda line: line.replace(b'"der":"MII', b'"der":"MIJ'),
    ],
    ids=["torn", "another id", "another device", "another use", "another certificate"],
)
def test_a_journal_line_that_proves_nothing_is_not_believed(home: Path, spoil: Callable[[bytes], bytes]) -> None:
    after_backup(home, device(2), device(4))
    one, two = (home / "provider" / "issued.log").read_bytes().splitlines()[-2:]
    (home / "issued.log").write_bytes(spoil(one) + b"\n" + two + b"\n")

    done = json.loads(restore(home, "--issued", home / "issued.log").stdout)

    assert (done["journal_lines_damaged"], done["devices_adopted"]) == (1, 1)
    with opened(home, "new") as store:
        assert {row.id for row in store.devices()} == {device(1).id, device(4).id}


def test_a_record_is_not_raised_by_a_journal(home: Path) -> None:
    after_backup(home, device(1))
    (*_, line) = (home / "provider" / "issued.log").read_bytes().splitlines()
    (home / "issued.log").write_bytes(doctored(line, certification="L0", purpose="Auth", listed=True))
    restore(home, "--issued", home / "issued.log")
    with opened(home, "new") as store:
        assert replace(store.device(device(1).id), seen_at=None, changed_at=None) == device(1)  # type: ignore[type-var]


def test_certificates_of_a_commit_that_failed_give_way_to_those_that_were_sent(home: Path) -> None:
    lean(home)
    row = device(2)
    keys = make_key(Alg.EDDSA).public_key(), make_key(Alg.EDDSA).public_key()
    authority = Authority(load(home / "provider"))
    made = [authority.issue_pair(IssuePair(row.id, name, *keys, None), NOW) for name in ("lost", "sent")]
    (home / "issued.log").write_bytes(b"".join(journal.show(row, pair) for pair in made))

    restore(home, "--issued", home / "issued.log")

    with opened(home, "new") as store:
        assert {one.pair for one in store.certificates(row.id)} == {"sent"}


def test_a_journal_that_is_not_there_is_named_and_nothing_is_made(home: Path) -> None:
    lean(home)
    refused = restore(home, "--issued", home / "none.log")
    assert refused.exit_code == 2
    assert "none.log" in refused.stderr
    assert not (home / "new").exists()
