"""Keys in files: private, the same for the same name, gone when destroyed."""

from pathlib import Path

import pytest

from fleetward_agent.keys import FileKeys
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.jws import Alg, alg_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder with %20 and spaces" / "keys"


@pytest.mark.parametrize("alg", list(Alg))
def test_a_name_keeps_its_key_through_restarts(folder: Path, alg: Alg) -> None:
    made = FileKeys(folder).make("device-1", alg)
    again, opened = FileKeys(folder).make("device-1", alg), FileKeys(folder).open("device-1")

    assert alg_of(made) is alg
    assert len({key_thumbprint(key.public_key()) for key in (made, again, opened)}) == 1


def test_a_key_file_is_nobody_elses(folder: Path) -> None:
    FileKeys(folder).make("k", Alg.EDDSA)

    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0]


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    FileKeys(folder).make("k", Alg.EDDSA)
    (folder / "k.key.pem").chmod(0o640)

    with pytest.raises(KeyUnavailable, match="chmod 600"):
        FileKeys(folder).open("k")


def test_a_destroyed_key_is_gone_and_destroying_it_again_is_no_mistake(folder: Path) -> None:
    keys = FileKeys(folder)
    keys.make("k", Alg.EDDSA)
    keys.destroy("k")
    keys.destroy("k")

    assert list(folder.iterdir()) == []
    with pytest.raises(KeyUnavailable):
        keys.open("k")


def test_a_destroyed_keys_block_holds_zeros_before_its_name_is_gone(folder: Path, tmp_path: Path) -> None:
    FileKeys(folder).make("k", Alg.RS256)
    size = (folder / "k.key.pem").stat().st_size
    (tmp_path / "same block").hardlink_to(folder / "k.key.pem")

    FileKeys(folder).destroy("k")

    assert (tmp_path / "same block").read_bytes() == bytes(size)


def test_names_are_those_of_every_file_that_holds_a_key_or_part_of_one(folder: Path) -> None:
    keys = FileKeys(folder)
    assert keys.names() == frozenset()
    keys.make("device-1", Alg.EDDSA)
    (folder / ".device-2.key.pem.4711.tmp").write_bytes(b"half a key")
    (folder / "device-3.key.pem.note").write_bytes(b"")

    assert keys.names() == {"device-1", "device-2"}


def test_what_a_crash_left_of_a_key_is_destroyed_with_it(folder: Path) -> None:
    keys = FileKeys(folder)
    keys.make("device-1", Alg.EDDSA)
    (folder / ".device-2.key.pem.4711.tmp").write_bytes(b"half a key")

    keys.destroy("device-2")

    assert [path.name for path in folder.iterdir()] == ["device-1.key.pem"]


def test_a_destruction_that_a_crash_cut_short_is_done_again(folder: Path) -> None:
    FileKeys(folder).make("k", Alg.EDDSA)
    (folder / "k.key.pem").write_bytes(bytes(119))

    FileKeys(folder).destroy("k")

    assert FileKeys(folder).names() == frozenset()


def test_a_link_in_a_keys_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (tmp_path / "somebody's file").write_bytes(b"precious")
    (folder / "k.key.pem").symlink_to(tmp_path / "somebody's file")

    with pytest.raises(KeyUnavailable):
        FileKeys(folder).destroy("k")

    assert (tmp_path / "somebody's file").read_bytes() == b"precious"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"a file stands in the way")

    with pytest.raises(KeyUnavailable, match="keys"):
        FileKeys(tmp_path / "keys").make("k", Alg.EDDSA)
