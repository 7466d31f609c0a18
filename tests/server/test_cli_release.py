"""``fleetward release`` as people and scripts use it: one JSON document, exit codes, no secret on a command line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetward_server.cli.app import run
from tests.server.releaser import SECRET
from tests.server.test_cli import Ended

Fleetward = Callable[..., Ended]
NEW = ("--name", "firmware", "--version", "1.4.2", "--counter", "7", "--model", "Acme/Slap-4")


@pytest.fixture
def fleetward(capsys: pytest.CaptureFixture[str]) -> Fleetward:
    def call(*words: str | Path) -> Ended:
        code = run(["release", *map(str, words), "--json"])
        said = capsys.readouterr()
        return Ended(int(code), said.out, said.err)

    return call


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Path:
    """A provider with a repository in ``p``, its keys in ``K``, their passphrase in ``secret``."""
    shutil.copytree(founded, tmp_path / "r")
    secret = tmp_path / "r" / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)
    (tmp_path / "r" / "fw.bin").write_bytes(b"firmware")
    return tmp_path / "r"


def test_a_release_from_file_to_list(fleetward: Fleetward, home: Path) -> None:
    provider = ("--dir", home / "p")
    added = fleetward("add", home / "fw.bin", *NEW, *provider)
    assert added.json["path"] == "firmware/1.4.2/fw.bin"
    shutil.copytree(home / "p" / "releases" / "exchange", home / "R")
    signed = fleetward(
        "sign", "--keys", home / "K", "--repo", home / "R", "--passphrase-file", home / "secret", "--yes"
    )
    assert len(signed.json["signed"]) == 1
    assert "counter 7, for Acme/Slap-4" in signed.err
    done = fleetward("publish", "--exchange", home / "R", *provider)
    assert done.json["released"] == ["firmware/1.4.2/fw.bin"]
    (one,) = fleetward("list", *provider).json
    assert (one["counter"], one["models"], len(one["sha256"])) == (7, ["Acme/Slap-4"], 64)
    assert fleetward("show", "firmware/1.4.2/fw.bin", *provider).json == one
    assert fleetward("verify", *provider).json["flaws"] == []


def test_quick_does_all_three_and_says_what_that_costs(fleetward: Fleetward, home: Path) -> None:
    words = (home / "fw.bin", *NEW, "--keys", home / "K", "--passphrase-file", home / "secret", "--dir", home / "p")
    done = fleetward("quick", *words)
    assert done.json["released"] == ["firmware/1.4.2/fw.bin"]
    assert "belong elsewhere" in done.err
    assert fleetward("quick", *words).code == 5  # released already


def test_init_says_loudly_where_the_keys_belong(fleetward: Fleetward, home: Path) -> None:
    shutil.rmtree(home / "p" / "releases")
    done = fleetward("init", "--keys", home / "K2", "--passphrase-file", home / "secret", "--dir", home / "p")
    assert done.json["threshold"] == 2
    assert "CAN SHIP CODE" in done.err


def test_nothing_is_signed_unasked(fleetward: Fleetward, home: Path) -> None:
    fleetward("add", home / "fw.bin", *NEW, "--dir", home / "p")
    words = ("--keys", home / "K", "--repo", home / "p" / "releases" / "exchange", "--passphrase-file", home / "secret")
    done = fleetward("sign", *words)
    assert done.code == 6
    assert not (home / "p" / "releases" / "exchange" / "signed").exists()


def test_a_passphrase_comes_by_a_descriptor_too(fleetward: Fleetward, home: Path) -> None:
    fleetward("renew", "--dir", home / "p")
    reading, writing = os.pipe()
    os.write(writing, SECRET + b"\n")
    os.close(writing)
    words = ("--keys", home / "K", "--repo", home / "p" / "releases" / "exchange", "--passphrase-fd", str(reading))
    try:
        assert fleetward("sign", *words).json["signed"] == []
    finally:
        os.close(reading)


@pytest.mark.parametrize(("mode", "content"), [(0o644, SECRET), (0o600, b"short"), (0o600, b"wrong, but long enough")])
def test_a_passphrase_that_will_not_do_is_refused(fleetward: Fleetward, home: Path, mode: int, content: bytes) -> None:
    fleetward("renew", "--dir", home / "p")
    (home / "secret").write_bytes(content)
    (home / "secret").chmod(mode)
    words = ("--keys", home / "K", "--repo", home / "p" / "releases" / "exchange")
    done = fleetward("sign", *words, "--passphrase-file", home / "secret")
    assert done.code == 2
    assert content.decode() not in done.err


def test_without_a_passphrase_and_a_terminal_nothing_is_signed(fleetward: Fleetward, home: Path) -> None:
    done = fleetward("sign", "--keys", home / "K", "--repo", home / "p" / "releases" / "exchange")
    assert done.code == 2
    assert "--passphrase-file" in json.loads(done.err)["error"]["message"]


def test_no_command_takes_a_passphrase_as_a_word(fleetward: Fleetward, home: Path) -> None:
    done = fleetward("sign", "--keys", home / "K", "--repo", home, "--passphrase", SECRET.decode())
    assert done.code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "nothing"), 3),
        (("withdraw", "nothing"), 3),
        (("publish",), 5),
        (("root", "--out", "OUT", "--root-version", "9"), 3),
        (("root", "--out", "OUT"), 0),
        (("expiring",), 0),
        (("list",), 0),
    ],
)
def test_the_same_kind_of_trouble_gives_the_same_code(
    fleetward: Fleetward, home: Path, words: tuple[str, ...], code: int
) -> None:
    named = [str(home / "out") if word == "OUT" else word for word in words]
    assert fleetward(*named, "--dir", home / "p").code == code


def test_what_does_not_hold_is_exit_7(fleetward: Fleetward, home: Path) -> None:
    path = home / "p" / "releases" / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version":9'))
    assert fleetward("verify", "--dir", home / "p").code == 7
    assert fleetward("list", "--dir", home / "p").code == 7


def test_a_provider_without_a_repository_is_told_what_to_do(fleetward: Fleetward, home: Path) -> None:
    shutil.rmtree(home / "p" / "releases")
    for words in (("list",), ("verify",), ("publish",), ("expiring",), ("renew",)):
        done = fleetward(*words, "--dir", home / "p")
        assert done.code == 3
        assert "release init" in done.err


def test_a_root_is_rotated_from_the_command_line(fleetward: Fleetward, home: Path) -> None:
    fleetward("renew", "--dir", home / "p")
    words = ("--keys", home / "K", "--repo", home / "p" / "releases" / "exchange", "--passphrase-file", home / "secret")
    assert fleetward("rotate-root", *words, "--replace", "root-1").json["version"] == 2
    assert fleetward("publish", "--dir", home / "p").json["root"] == 2
    assert fleetward("root", "--out", home / "out", "--dir", home / "p").json["root"] == 2
