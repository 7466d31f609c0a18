"""What exists is believed by TUF alone, at trusted time, and only together with what the director says.

Names of threats are those of Uptane and of RFC 9124 (section 4.2). Each has its accepted twin.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, MetaFile, Targets

from fleetward_agent.release_files import Durable, target_of
from fleetward_agent.release_reader import ReleaseReader
from fleetward_agent.upgrade_effects import ReadRelease, ReleaseRead
from fleetward_schemas import moment
from fleetward_schemas.upgrade import Hashes, Release, Why
from tests.repository import IMAGE, Repository, new_key, release, signed, target

NOW = datetime(2026, 6, 1, 12, tzinfo=moment.EPOCH.tzinfo)
MODEL = "ACME/Finger One"
AGREED = ReleaseRead("firmware", version="2.0")
ODD = ReleaseRead("firmware", why=Why.METADATA, again=True)


@dataclass
class Table:
    """A reader and the repository it reads. withheld: files that a broker keeps back."""

    repository: Repository
    folder: Path
    withheld: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    root: bytes | None = None

    def read(
        self, wanted: Release | None = None, now: datetime = NOW, files: dict[str, bytes] | None = None
    ) -> ReleaseRead:
        """Give what is wanted, until the reader has made up its mind."""
        reader = ReleaseReader(self.root or self.repository.first, self.folder, MODEL)
        there = {k: v for k, v in (files or self.repository.files).items() if k not in self.withheld}
        had: dict[str, bytes] = {}
        absent: set[str] = set()
        self.asked = []
        for _ in range(100):
            us = (now - moment.EPOCH) // timedelta(microseconds=1)
            found = reader.read(ReadRelease(wanted or release(), tuple(had.items()), frozenset(absent), us))
            if not found.wants:
                return found
            self.asked += found.wants
            for file in found.wants:
                if file in there:
                    had[file] = there[file]
                else:
                    absent.add(file)
        raise AssertionError(self.asked)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    repository = Repository(NOW)
    repository.publish(target())
    return Table(repository, tmp_path / "release")


def test_a_released_target_that_the_director_means_is_agreed(table: Table) -> None:
    assert table.read() == AGREED
    assert table.asked == ["2.root", "timestamp", "1.snapshot", "1.targets", table.repository.bin]


def test_what_verified_is_on_disk_and_is_not_asked_for_again(table: Table) -> None:
    table.read()

    assert table.read() == AGREED
    assert table.asked == ["2.root", "timestamp"]


def test_what_verified_is_written_durably_by_our_own_hand(table: Table) -> None:
    written: list[str] = []

    class Watched(Durable):
        def _persist_file(self, filename: str, data: bytes) -> None:
            super()._persist_file(filename, data)
            written.append(Path(filename).name)

    files = tuple(table.repository.files.items())
    wanted = ReadRelease(release(), files, frozenset({"2.root"}), (NOW - moment.EPOCH) // timedelta(microseconds=1))
    target_of(table.repository.first, table.folder, wanted, Watched)
    kept = [path.name for path in table.folder.rglob("*") if path.is_file() and not path.is_symlink()]

    assert sorted(set(written)) == sorted(kept)
    assert len(kept) == 5


def test_without_a_first_root_nothing_is_released(tmp_path: Path) -> None:
    assert ReleaseReader(None, tmp_path, MODEL).read(ReadRelease(release(), (), frozenset(), 0)).why is Why.NO_RELEASES


def test_a_reader_without_a_folder_keeps_its_own_as_long_as_it_lives(table: Table) -> None:
    reader = ReleaseReader(table.repository.first, None, MODEL)
    us = (NOW - moment.EPOCH) // timedelta(microseconds=1)
    files = tuple(table.repository.files.items())

    assert reader.read(ReadRelease(release(), files, frozenset({"2.root"}), us)) == AGREED
    # what it keeps it does not ask for again
    stamp = (("timestamp", table.repository.files["timestamp"]),)
    assert reader.read(ReadRelease(release(), stamp, frozenset({"2.root"}), us)) == AGREED


def test_a_folder_that_cannot_be_written_is_told_as_storage(table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    table.folder = tmp_path / "file" / "release"

    assert table.read().why is Why.STORAGE


def test_a_target_nobody_released_is_refused(table: Table) -> None:
    assert table.read(release(target="acme/fw-2.bin")) == AGREED
    table.repository.publish()
    assert table.read().why is Why.NOT_RELEASED


DISAGREE: dict[str, dict[str, object]] = {
    "name": {"name": "agent"},
    "counter": {"counter": 3},
    "length": {"length": len(IMAGE) + 1},
    "hashes": {"hashes": Hashes(sha256="A" * 43)},
}


@pytest.mark.parametrize("field_", DISAGREE)
def test_a_director_that_disagrees_in_one_field_is_refused(table: Table, field_: str) -> None:
    assert table.read() == AGREED
    assert table.read(release(**DISAGREE[field_])).why is Why.MISMATCH


@pytest.mark.parametrize("custom", [{"models": ["ACME/Iris"]}, {"version": 2}, {"counter": "2"}, {"counter": 0}])
def test_a_target_for_other_models_or_of_another_shape_is_refused(table: Table, custom: dict[str, object]) -> None:
    table.repository.publish(target(**custom))

    assert table.read().why is Why.MISMATCH


def test_a_target_for_this_model_is_agreed(table: Table) -> None:
    table.repository.publish(target(models=["ACME/Iris", MODEL], more="ignored"))

    assert table.read() == AGREED


def test_a_target_without_a_sha256_is_refused(table: Table) -> None:
    made = target()
    made.hashes = {"sha512": "ab" * 64}
    table.repository.publish(made)

    assert table.read().why is Why.MISMATCH


def test_the_url_is_no_part_of_the_agreement(table: Table) -> None:
    assert table.read(release(url="https://elsewhere.example/x")) == AGREED


def older(table: Table) -> dict[str, bytes]:
    """Return the set as it is, and publish a newer one that is read."""
    before = dict(table.repository.files)
    table.repository.publish(target())
    assert table.read() == AGREED
    return before


def test_rollback_attack_an_older_set_is_refused_once_a_newer_was_seen(table: Table) -> None:
    before = older(table)

    assert table.read(files=before) == ODD
    assert table.read() == AGREED


def test_rollback_attack_an_older_snapshot_under_a_new_timestamp_is_refused(table: Table) -> None:
    older(table)
    version = table.repository.versions["set"] = 3
    metas = {f"{name}.json": MetaFile(1) for name in ["targets", *(f"bin-{n:02x}" for n in range(256))]}
    table.repository.seal(metas, version)

    assert table.read() == ODD


def test_freeze_attack_an_old_timestamp_is_refused_at_trusted_time(table: Table) -> None:
    assert table.read(now=NOW + timedelta(hours=23)) == AGREED
    assert table.read(now=NOW + timedelta(hours=25)) == ODD


@pytest.mark.parametrize(("days", "role"), [(8, "snapshot"), (91, "targets"), (366, "root")])
def test_freeze_attack_each_role_expires_at_trusted_time(table: Table, days: int, role: str) -> None:
    table.repository.days |= {"timestamp": 400} | {one: 400 for one in table.repository.days if one != role}
    if role == "root":
        table.repository = Repository(NOW, days={"root": 365, "targets": 400, "snapshot": 400, "timestamp": 400})
    table.repository.publish(target())

    assert table.read(now=NOW + timedelta(days=days - 2)) == AGREED
    assert table.read(now=NOW + timedelta(days=days)) == ODD


def test_mix_and_match_attack_files_of_two_sets_do_not_fit(table: Table) -> None:
    before = dict(table.repository.files)
    table.repository.publish(target(version="2.1"))
    mixed = table.repository.files | {"2.targets": before["1.targets"]}

    assert table.read(files=mixed) == ODD
    assert table.read().version == "2.1"


def test_mix_and_match_attack_a_bin_of_another_set_does_not_fit(table: Table) -> None:
    old = table.repository.files[table.repository.bin]
    table.repository.publish(target(version="2.1"))

    assert table.read(files=table.repository.files | {table.repository.bin: old}) == ODD


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_wrong_role_key_a_file_signed_by_any_other_role_is_refused(table: Table, role: str) -> None:
    repository = table.repository
    file = "timestamp" if role == "timestamp" else f"{2 if role == 'root' else 1}.{role}"
    if role == "root":
        repository.rotate()
    content = Metadata.from_bytes(repository.files[file]).signed
    others = [key for name, keys in repository.keys.items() if name != role for key in keys]

    assert table.read(files=repository.files | {file: signed(content, others)}) == ODD
    assert table.read() == AGREED


def test_arbitrary_software_attack_a_target_of_a_strangers_repository_is_refused(table: Table) -> None:
    stranger = Repository(NOW)
    stranger.publish(target())

    assert table.read(files=stranger.files | {"1.root": table.repository.first}) == ODD


def test_arbitrary_software_attack_a_changed_target_is_refused(table: Table) -> None:
    file = table.repository.bin
    changed = table.repository.files[file].replace(b'"counter":2', b'"counter":3')

    assert changed != table.repository.files[file]
    assert table.read(release(counter=3), files=table.repository.files | {file: changed}) == ODD


def test_below_threshold_one_of_two_keys_releases_nothing(tmp_path: Path) -> None:
    repository = Repository(NOW, threshold=2)
    repository.publish(target())
    table = Table(repository, tmp_path / "release")
    content = Metadata.from_bytes(repository.files["1.targets"]).signed
    one = signed(content, repository.keys["targets"][:1])
    twice = signed(content, repository.keys["targets"][:1] * 2)

    assert table.read(files=repository.files | {"1.targets": one}) == ODD
    assert table.read(files=repository.files | {"1.targets": twice}) == ODD
    assert table.read() == AGREED


def test_endless_data_attack_a_file_that_is_too_long_is_refused(table: Table) -> None:
    long = table.repository.files["timestamp"] + b" " * 60_000

    assert table.read(files=table.repository.files | {"timestamp": long}) == ODD


@pytest.mark.parametrize("file", ["timestamp", "1.snapshot", "1.targets", "bin"])
def test_slow_retrieval_and_denial_a_file_that_does_not_come_leaves_no_agreement(table: Table, file: str) -> None:
    table.withheld = {table.repository.bin if file == "bin" else file}

    assert table.read() == ODD
    table.withheld = set()
    assert table.read() == AGREED


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b"[" * 20_000, b'{"signed":{"_type":"timestamp"}}', b"null"])
def test_bytes_that_are_no_metadata_are_refused(table: Table, raw: bytes) -> None:
    assert table.read(files=table.repository.files | {"timestamp": raw}) == ODD


def test_root_rotation_new_keys_are_followed_one_root_after_the_other(table: Table) -> None:
    for _ in range(3):
        before = table.repository.keys["root"]
        table.repository.keys = {role: [new_key()] for role in table.repository.keys}
        table.repository.rotate(before)
    table.repository.publish(target(version="2.1"))

    assert table.read().version == "2.1"
    assert [file for file in table.asked if file.endswith(".root")] == ["2.root", "3.root", "4.root", "5.root"]


def test_root_rotation_keys_that_were_taken_away_release_nothing(table: Table) -> None:
    stolen = dict(table.repository.keys)
    table.repository.keys = {role: [new_key()] for role in stolen} | {"root": stolen["root"]}
    table.repository.rotate()
    table.repository.publish(target())
    assert table.read() == AGREED
    table.repository.keys = stolen
    table.repository.publish(target(version="evil"))

    assert table.read() == ODD


def test_root_rotation_not_signed_by_the_root_before_is_refused(table: Table) -> None:
    table.repository.keys["root"] = [new_key()]
    table.repository.rotate()

    assert table.read() == ODD


def test_after_a_root_rotation_the_factorys_root_alone_brings_no_older_keys_back(table: Table) -> None:
    before = dict(table.repository.files)
    table.repository.keys |= {"timestamp": [new_key()], "snapshot": [new_key()]}
    table.repository.rotate()
    table.repository.publish(target())
    assert table.read() == AGREED

    assert table.read(files=before) == ODD


def test_a_target_in_the_top_role_is_signed_by_the_same_keys_and_counts(table: Table) -> None:
    top: Targets = Metadata.from_bytes(table.repository.files["1.targets"]).signed  # type: ignore[assignment]
    top.targets["acme/fw-2.bin"] = target()

    assert (
        table.read(files=table.repository.files | {"1.targets": signed(top, table.repository.keys["targets"])})
        == AGREED
    )
