"""How answers look: JSON for programs, a table on a terminal, aligned plain text everywhere else.

stdout holds data alone. Text that devices wrote is printed as text, never as markup. Source: https://no-color.org.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, object]
PADDING = 3
"""Characters between two columns of a terminal's table."""
LAST_LEAST = 24
"""How narrow the last column of one may become."""


def note(text: str) -> None:
    """Tell a person something beside the data, on stderr."""
    print(text, file=sys.stderr)


@contextmanager
def stdout() -> Iterator[None]:
    """Write to stdout, all of it by the end.

    Raises:
        OperatorProblem: ``failed``: it takes no more. BrokenPipeError: nobody reads any more.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OperatorProblem(Kind.FAILED, f"stdout: {error.strerror}") from None


def let_go() -> None:
    """Leave a stdout that takes no more: what is still buffered has nowhere to go, and is not tried at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def rows(columns: Sequence[str], found: Iterable[Row], *, as_json: bool) -> None:
    """Print a list: an array of objects, or one line a row."""
    each = list(found)
    with stdout():
        if as_json:
            print(json.dumps([plain(row) for row in each], indent=2))
        elif sys.stdout.isatty():
            from rich.console import Console

            console = Console()
            console.print(table(columns, each, console.width))
        else:
            for line in aligned(columns, each):
                print(line)


def record(found: Row, *, as_json: bool) -> None:
    """Print one thing: an object, or one line a member."""
    with stdout():
        if as_json:
            print(json.dumps(plain(found), indent=2))
            return
        width = max((len(name) for name in found), default=0)
        for name, value in found.items():
            print(f"{name:<{width}}  {word(value)}".rstrip())


def section(title: str, lines: Sequence[str], most: int = 20) -> None:
    """Print the first of several lines under a title; nothing where there are none."""
    if not lines:
        return
    with stdout():
        print(f"\n{title}")
        for line in lines[:most]:
            print(word(line))
    if len(lines) > most:
        note(f"and {len(lines) - most} more: --json shows all")


def aligned(columns: Sequence[str], found: Sequence[Row]) -> list[str]:
    """Return a header and one line a row, columns padded with spaces."""
    cells = [[column.upper() for column in columns]]
    cells += [[word(row.get(column)) or "-" for column in columns] for row in found]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def table(columns: Sequence[str], found: Sequence[Row], width: int) -> "Table":
    """Return a table for a terminal; what devices wrote is text in it, never markup.

    Nothing is cut off: the last column folds, and where even that is too wide each row is told in lines of its own.
    """
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    cells = {column: [word(row.get(column)) for row in found] for column in columns}
    *wide, last = [max(len(one) for one in (name, "-", *each)) + PADDING for name, each in cells.items()]
    if sum(wide) + min(last, LAST_LEAST) <= width:
        made = Table(box=SIMPLE_HEAD)
        for name in columns:
            made.add_column(name, no_wrap=name != columns[-1], overflow="fold")
        for row in zip(*cells.values(), strict=True):
            made.add_row(*(Text(one or "-") for one in row))
        return made
    made = Table(box=None, show_header=False, padding=0)
    made.add_column(overflow="fold")
    for first, *others in zip(*cells.values(), strict=True):
        told = "  ".join(f"{name} {one}" for name, one in zip(columns[1:], others, strict=True) if one)
        made.add_row(Text(first))
        made.add_row(Padding(Text(told), (0, 0, 0, 2)))
    return made


def word(value: object) -> str:
    """Return a value as a person reads it, on one line and without control characters."""
    match plain(value):
        case None:
            return ""
        case bool() as yes:
            return "yes" if yes else "no"
        case list() as several:
            return ", ".join(map(word, several))
        case dict() as members:
            return ", ".join(f"{name}={word(member)}" for name, member in members.items())
        case other:
            return "".join(char if char.isprintable() else "?" for char in str(other))


def plain(value: object) -> Any:
    """Return a value as JSON has it: moments in ISO 8601 UTC, enums as words, tuples as arrays."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
