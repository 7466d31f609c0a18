"""How answers look: JSON for programs, a table on a terminal, aligned plain text everywhere else.

stdout holds data alone. Text that devices wrote is printed as text, never as markup. Source: https://no-color.org.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, object]


def note(text: str) -> None:
    """Tell a person something beside the data, on stderr."""
    print(text, file=sys.stderr)


def rows(columns: Sequence[str], found: Iterable[Row], *, as_json: bool) -> None:
    """Print a list: an array of objects, or one line a row."""
    each = list(found)
    if as_json:
        print(json.dumps([plain(row) for row in each], indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(table(columns, each))
    else:
        for line in aligned(columns, each):
            print(line)


def record(found: Row, *, as_json: bool) -> None:
    """Print one thing: an object, or one line a member."""
    if as_json:
        print(json.dumps(plain(found), indent=2))
        return
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        print(f"{name:<{width}}  {word(value)}".rstrip())


def aligned(columns: Sequence[str], found: Sequence[Row]) -> list[str]:
    """Return a header and one line a row, columns padded with spaces."""
    cells = [[column.upper() for column in columns]]
    cells += [[word(row.get(column)) or "-" for column in columns] for row in found]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def table(columns: Sequence[str], found: Sequence[Row]) -> "Table":
    """Return a table for a terminal; what devices wrote is text in it, never markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(*columns, box=SIMPLE_HEAD)
    for row in found:
        made.add_row(*(Text(word(row.get(column)) or "-") for column in columns))
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
