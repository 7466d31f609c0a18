"""How a command ends when the terminal does not play along: no reader, no room, no stream, no patience, no sense."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleetward_server.cli.app import run
from tests.server.register import device, kept, made
from tests.server.test_operator import CONFIG

COMMAND = [sys.executable, "-m", "fleetward_server"]
QUESTIONS = [["version"], ["--help"], ["config", "show"], ["device", "list"], ["device", "list", "--json"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as store:
        kept(store, device())
    return tmp_path


def asked(words: Sequence[str], folder: Path, **streams: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"FLEETWARD_DIR": str(folder)}
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | streams
    return subprocess.run([*COMMAND, *words], env=environment, stderr=subprocess.PIPE, text=True, check=False, **given)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_nobody_who_reads_is_no_trouble(folder: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = asked(words, folder, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_a_stdout_without_room_is_told_in_one_line(folder: Path, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = asked(words, folder, stdout=full)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "stdout: No space left on device" in line


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_before_is_missed_by_nobody(folder: Path, closed: str) -> None:
    """A store that is opened as descriptor 1 would be printed into."""
    line = f'"{sys.executable}" -m fleetward_server device tag "model:*" +gate --yes {closed}'
    done = shell(line, folder)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert json.loads(asked(["device", "list", "--json"], folder).stdout)[0]["tags"] == ["gate"]


def shell(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"FLEETWARD_DIR": str(folder)}
    return subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False)


def test_who_cannot_be_asked_is_told_what_to_say(folder: Path) -> None:
    done = shell(f'"{sys.executable}" -m fleetward_server device tag "model:*" +gate <&-', folder)
    assert (done.returncode, done.stderr) == (6, "fleetward: tag: 1 device (model:*): nothing was done; say --yes\n")


def test_a_word_that_is_no_text_is_wrong_usage(folder: Path) -> None:
    done = asked(["device", "show", "caf\udce9"], folder)
    assert done.returncode == 2
    assert done.stderr == "fleetward: 'caf\\udce9': is not UTF-8; see the locale (LC_ALL)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["device", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["device", "list", "--limit", "0"], "Invalid value for '--limit'"),
        (["device", "list", "--nonsense"], "no such option: --nonsense"),
        (["device", "revoke", "x"], "Missing option '--reason'"),
        (["up", "--log-level", "debug"], "it goes before the command: fleetward --log-level"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage_is_one_line_that_names_the_option(
    words: list[str], said: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json"] if as_json else words) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert told.out == ""
    assert said in (json.loads(line)["error"]["message"] if as_json else line.removeprefix("fleetward: "))


def test_a_group_without_a_command_shows_its_help_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["device"]) == 2
    told = capsys.readouterr()
    assert "import" in told.out
    assert told.err == ""


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fleetward ")


@pytest.mark.parametrize("which", ["", "  "])
def test_an_act_on_every_device_has_to_be_spelled(folder: Path, which: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script's unset variable would have put out the whole fleet."""
    act = ["device", "tag", which, "+gate", "--yes", "--dir", str(folder)]
    assert run(act) == 2
    assert "'id:*'" in capsys.readouterr().err
    assert run([word if word != which else "id:*" for word in act]) == 0


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_question_that_is_broken_off_is_an_interruption(folder: Path, words: list[str]) -> None:
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"\x04")
    done = asked(["device", "tag", "model:*", "+gate", *words], folder, stdin=terminal)
    os.close(keyboard)
    os.close(terminal)
    assert (done.returncode, done.stdout.strip()) == (130, "")
    assert "interrupted; nothing was done" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_of_another_room_fails_as_ours_do(
    folder: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "a folder"
    place.mkdir()
    assert run(["simulate", "--dir", str(place), *(["--json"] if as_json else [])]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)["error"]["message"] if as_json else line.removeprefix("fleetward: ")
    assert said == f"{place}: nothing is running; start it with: fleetward up --dir '{place}'"
