"""Lists that go on, parameters as JSON has them, and files that are whole or not there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_broker.durable import whole_text
from fleetward_sandbox.provision import Made, Order, next_serial, provision
from fleetward_schemas.identity import Certification
from fleetward_server.changes import AddReport, PutCommand
from fleetward_server.cli.app import run
from fleetward_server.store import Store, open_store
from tests.server.register import FIRST, command, device, kept, made, report
from tests.server.test_operator import CONFIG

BODY = '{"readings":[{"metrics":{"uptimeS":5},"observedAt":"2026-05-01T12:00:00.000Z","uncertaintyMs":9}]}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield kept(fresh, device())


@pytest.mark.parametrize("words", [("telemetry", "list"), ("command", "list")])
def test_a_list_that_was_cut_says_how_to_go_on(
    store: Store, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The oldest hundred were shown without a word, and nothing newer could be seen."""
    with store.unit() as unit:
        unit.apply([AddReport(replace(report(number), body=BODY)) for number in range(3)])
        unit.apply([PutCommand(command(number)) for number in range(3)])
    ids = [command(number).id for number in range(3)]
    seen, after = [], ""
    for _ in range(2):
        assert run([*words, "--limit", "2", "--json", "--after", after, "--dir", str(store.path.parent)]) == 0
        said = capsys.readouterr()
        seen += [one["id"] for one in json.loads(said.out)]
        after = said.err.strip().rpartition("--after ")[2]
    assert (seen, after) == (ids, "")


def test_parameters_are_json_and_no_text_of_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept(store, device(2))
    words = ["--json", "--dir", str(store.path.parent)]
    assert run(["command", "send", FIRST, "collect-info", *words]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == {}
    assert run(["device", "tag", "model:*", "+gate", "--yes", *words]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == {"add": ["gate"], "remove": []}


def test_a_file_that_is_no_certificate_is_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("serialNo")
    for words in (["add", str(tmp_path / "list.csv")], ["check", "--chain", str(tmp_path / "list.csv")]):
        assert run(["ftm-root", *words, "--dir", str(tmp_path)]) == 2
        assert f"{tmp_path}/list.csv: expected" in capsys.readouterr().err


def test_a_text_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for before in (None, "old"):
        if before is not None:
            path.write_text(before)
        with suppress(KeyboardInterrupt), whole_text(path) as file:
            file.write("half of ")
            raise KeyboardInterrupt
        assert [one.read_text() for one in tmp_path.iterdir()] == ([] if before is None else [before])
    with whole_text(path) as file:
        file.write("whole")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["whole"]


def test_what_is_no_file_is_not_replaced_by_one() -> None:
    with whole_text(Path("/dev/null")) as file:
        file.write("x")
    assert Path("/dev/null").is_char_device()


def test_a_disk_that_takes_no_more_names_the_file(tmp_path: Path) -> None:
    """The system says of an open file that there is no room, and not of which."""
    write = "import sys, pathlib; from fleetward_broker.durable import write_durably; "
    write += "write_durably(pathlib.Path(sys.argv[1]), bytes(100_000))"
    limit = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-c", write, str(tmp_path / "out.html")]
    done = subprocess.run(limit, capture_output=True, text=True, check=False)
    assert f"File too large: '{tmp_path}/out.html'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_devices_whose_making_was_broken_off_are_on_the_list(tmp_path: Path) -> None:
    """They lay there and were strangers to the provider for ever."""
    folder = tmp_path / "provider"
    assert run(["init", "--dir", str(folder)]) == 0
    there: list[str] = []

    def broken_off(made_one: Made) -> None:
        there.append(made_one.id)
        if len(there) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provision(folder, Order(5, tmp_path / "boxes", Certification.L0), broken_off)
    with open_store(folder / "server.db") as store:
        assert sorted(one.id for one in store.devices()) == sorted(there)
    assert next_serial(folder, tmp_path / "boxes") == 3
