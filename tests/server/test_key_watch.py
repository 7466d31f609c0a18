"""The keys of a server at work are asked for, a change is told once; what the server says of itself is read back."""

from pathlib import Path

import pytest

from fleetward_server.authority import Authority
from fleetward_server.health import FILE, read_health, write_health
from fleetward_server.key_watch import KeyWatch


class Keys(Authority):
    """An authority of which only the keys' state is asked."""

    def __init__(self) -> None:
        self.said = ""

    def trouble(self) -> str:
        return self.said


def test_a_loss_and_a_return_are_told_once_each() -> None:
    keys = Keys()
    watch, told = KeyWatch(keys), []

    for keys.said in ("", "lost", "lost", "lost again", "", ""):
        told.append((watch.look(), watch.trouble))

    assert told == [(False, ""), (True, "lost"), (False, "lost"), (True, "lost again"), (True, ""), (False, "")]


def test_what_the_server_says_of_itself_is_read_back(tmp_path: Path) -> None:
    write_health(tmp_path, "token lost")
    assert read_health(tmp_path) == "token lost"
    write_health(tmp_path, "")
    assert read_health(tmp_path) == ""


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b"[]", b"3", b"\xff"])
def test_a_server_that_says_nothing_is_not_ready(tmp_path: Path, raw: bytes) -> None:
    assert "says nothing" in read_health(tmp_path)
    (tmp_path / FILE).write_bytes(raw)
    assert "says nothing" in read_health(tmp_path)
