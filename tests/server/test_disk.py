"""The mark below which nothing is taken: where it is passed, and where it is room again."""

import json
from pathlib import Path

import pytest

from fleetward_server.disk import MIB, Mark, Room, free_bytes
from fleetward_server.health import FILE, write_health

LEAST = 100 * MIB


@pytest.mark.parametrize(
    ("low", "free_mib", "then"),
    [
        (False, 100, False),
        (False, 99, True),
        (True, 100, True),
        (True, 124, True),
        (True, 125, False),
    ],
)
def test_the_mark_is_left_only_well_above_itself(low: bool, free_mib: int, then: bool) -> None:
    assert Mark(LEAST, low).look(free_mib * MIB) == Mark(LEAST, then)


def test_what_is_free_is_asked_of_the_folders_own_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0


def test_lacking_room_is_told_with_both_sides(tmp_path: Path) -> None:
    assert Room(tmp_path, 1).lacking() == ""
    assert "min_free_mb = 1000000" in Room(tmp_path, 1_000_000).lacking()


def test_health_says_why_and_without_a_why_that_it_is_ready(tmp_path: Path) -> None:
    write_health(tmp_path, "no room")
    assert json.loads((tmp_path / FILE).read_text()) == {"ready": False, "why": "no room", "warnings": []}
    write_health(tmp_path, "", ["ends soon"])
    assert json.loads((tmp_path / FILE).read_text()) == {"ready": True, "why": "", "warnings": ["ends soon"]}


def test_health_that_cannot_be_written_is_taken_back(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    write_health(gone, "")
    assert not gone.exists()
