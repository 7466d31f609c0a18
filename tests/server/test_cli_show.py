"""How answers look. Text that devices wrote stays text."""

from datetime import UTC, datetime

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
    Console().print(show.table(("name",), [{"name": "[red]x[/red]"}]))
    assert "[red]x[/red]" in capsys.readouterr().out


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
