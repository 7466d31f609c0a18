"""The brokers that ``up`` can run: what is missing is named, what is written is private, what is exported is whole."""

from pathlib import Path

import pytest

from fleetward_broker.mosquitto import Files, Listen
from fleetward_server.brokers import NotInstalled, program, views, write_mosquitto
from fleetward_server.cli.app import run
from fleetward_server.cli.telling import translated
from fleetward_server.config import load
from fleetward_server.init import Wish
from fleetward_server.problem import Kind, OperatorProblem
from tests.ready import ready_provider

FILES = Files(*map(Path, ("/b.pem", "/b.key.pem", "/root.pem", "/crl.pem", "/here", "/x.so")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("provider")
    ready_provider(made, Wish())
    return made


def test_a_broker_that_is_not_installed_is_named_with_its_package() -> None:
    assert program("sh").endswith("/sh")
    with pytest.raises(NotInstalled, match="apt-get install no-such-broker"):
        program("no-such-broker")


def test_what_is_not_installed_is_wrong_usage() -> None:
    with pytest.raises(OperatorProblem) as problem, translated():
        program("no-such-broker")
    assert problem.value.kind is Kind.INVALID


def test_the_admins_secrets_are_private_and_new_each_time(tmp_path: Path) -> None:
    write_mosquitto(tmp_path, Listen("::1", 1), FILES, ())
    before = (tmp_path / "admin.password").read_text()
    write_mosquitto(tmp_path, Listen("::1", 1), FILES, ())
    assert (tmp_path / "admin.password").read_text() != before
    assert before.strip() not in (tmp_path / "mosquitto.conf").read_text()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("admin.password", "admin.json")} == {0o600}


def test_views_are_those_with_a_certificate(folder: Path) -> None:
    for name in ("view-1.pem", "view-1.key.pem", "view-2.pem", "view-BAD.pem"):
        (folder / "pki" / name).touch()
    assert views(load(folder)) == ["view-1", "view-2"]


@pytest.mark.part
def test_an_exported_folder_is_whole(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mosquitto"
    code = run(["broker", "config", "mosquitto", "--dir", str(folder), "--out", str(out), "--at", "/etc/fw", "--json"])
    capsys.readouterr()
    conf = (out / "mosquitto.conf").read_text()
    named = [line.split()[1] for line in conf.splitlines() if " /etc/fw/" in line]
    assert code == 0
    assert all((out / Path(name).name).exists() for name in named if not name.endswith("/"))
    assert (out / "broker.key.pem").stat().st_mode & 0o777 == 0o600


def test_the_access_list_alone_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["broker", "config", "acl", "--dir", str(folder)]) == 0
    assert "pattern write fw/v1/d/%u/up/+" in capsys.readouterr().out
