"""How answers look. Text that devices wrote stays text."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from fleetward_schemas.enrol import State
from fleetward_server.cli import show
from fleetward_server.cli.telling import since
from fleetward_server.problem import OperatorProblem


def test_columns_stand_under_their_names() -> None:
    lines = show.aligned(("a", "long"), [{"a": 1, "long": None}, {"a": "three", "long": True}])
    assert lines == ["A      LONG", "1      -", "three  yes"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (False, "no"),
        (State.PENDING, "pending"),
        (datetime(2026, 5, 1, 12, tzinfo=UTC), "2026-05-01T12:00:00.000Z"),
        (("a", "b"), "a, b"),
        ({"x": 1.5}, "x=1.5"),
        ("two\nlines\x1b[31m", "two?lines?[31m"),
    ],
)
def test_a_value_is_one_line_without_control_characters(value: object, shown: str) -> None:
    assert show.word(value) == shown


def test_markup_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print(show.table(("name",), [{"name": "[red]x[/red]"}], 80))
    assert "[red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_narrow_terminal_nothing_is_cut_off(width: int) -> None:
    """At 80 columns an id of 26 characters was shown as its first five and dots."""
    row = {"id": "i" * 26, "serial": "SBX000000001", "model": "Slap-4", "seen_at": "2026-11-27T00:39:16.692Z"}
    console = Console(width=width, record=True, file=StringIO())
    console.print(show.table(("id", "serial", "model", "reason", "presence", "tags", "seen_at"), [row], width))
    shown = console.export_text()
    assert "i" * 26 in shown
    assert "…" not in shown
    assert ("reason" in shown) is (width == 200)
    letters = [char for char in shown.replace("-", "") if not char.isspace()]
    assert all(letters.count(char) >= value.count(char) for value in row.values() for char in set(value) - {"-"})


def test_on_a_narrow_terminal_the_last_column_folds_first() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(show.table(("part", "detail"), [{"part": "clock", "detail": "x" * 100}], 80))
    shown = console.export_text()
    assert shown.split()[:2] == ["part", "detail"]
    assert shown.count("x") == 100


def test_of_many_lines_the_first_are_shown_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    show.section("errors", [f"row {number}\x1b" for number in range(25)])
    said = capsys.readouterr()
    assert said.out.splitlines()[1:3] == ["errors", "row 0?"]
    assert len(said.out.splitlines()) == 22
    assert said.err == "and 5 more: --json shows all\n"


def test_a_moment_may_be_told_by_how_long_ago() -> None:
    found = since("2h")
    assert found is not None
    assert 7199 < (datetime.now(UTC) - found).total_seconds() < 7300
    assert since("2026-05-01T12:00:00Z") == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert since("") is None


@pytest.mark.parametrize("text", ["2 h", "h", "-1h", "99999999999d", "2026-05-01", "²s"])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OperatorProblem, match="--since"):
        since(text)
