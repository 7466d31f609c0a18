"""Keys in files: private, the same for the same name, gone when destroyed."""

from pathlib import Path

import pytest

from fleetward_agent.keys import FileKeys
from fleetward_broker.signers import KeyUnavailable
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


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"a file stands in the way")

    with pytest.raises(KeyUnavailable, match="keys"):
        FileKeys(tmp_path / "keys").make("k", Alg.EDDSA)
