"""How configuration is read: strictly. An unknown key is an error that names file, line and the nearest known one."""

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import Alg
from fleetward_schemas.strict import read_object

_BOUNDS = {"port": (1, 65535), "keep_alive_s": (5, 60), "outbox_rows": (100, 10**7), "outbox_bytes": (2**16, 2**40)}
_BOUNDS |= {"telemetry_days": (1, 3650), "bytes_per_day": (0, 2**40)}
_BOUNDS |= {
    "within_s": (1, 3000),
    "health_s": (60, 86400),
    "soak_s": (0, 600),
    "most_bytes": (0, 2**40),
    "most_entries": (1, 10**7),
}
_WORDS = {"level": ("debug", "info", "warning", "error"), "format": ("text", "json")}


class ConfigProblem(Exception):  # noqa: N818 - says what is wrong with the file
    """The configuration cannot be used; the message names file, line, key, and what was expected."""


def table_of(kind: type, value: Any, where: tuple[Path, str, str]) -> Any:
    """Return ``kind`` filled from a TOML table. where: file, its text, the table's name.

    Raises:
        ConfigProblem: an unknown key, or a value of another type or out of its bounds.
    """
    path, text, name = where
    if not isinstance(value, dict):
        raise ConfigProblem(f"{path}: [{name}] must be a table")
    hints = get_type_hints(kind)
    for key in value:
        require_known(key, [f.name for f in fields(kind)], path, text)
    return kind(**{key: _value(hints[key], entry, key, f"{path}: [{name}] {key}") for key, entry in value.items()})


def _value(kind: Any, value: Any, key: str, where: str) -> Any:
    if kind in {Environment, Alg}:
        return kind(_one_of(value, tuple(kind), where))
    if not isinstance(value, get_origin(kind) or kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigProblem(f"{where} = {value!r}: expected {kind.__name__}")
    if key in _WORDS:
        return _one_of(value, _WORDS[key], where)
    low, high = _BOUNDS.get(key, (None, None))
    if low is not None and high is not None and not low <= value <= high:
        raise ConfigProblem(f"{where} = {value}: expected {low}..{high}")
    return value


def _one_of(value: Any, words: tuple[str, ...], where: str) -> Any:
    if value not in words:
        raise ConfigProblem(f"{where} = {value!r}: expected one of {', '.join(words)}{_near(value, words)}")
    return value


def require_known(key: str, names: Iterable[str], path: Path, text: str) -> None:
    """Raise ConfigProblem unless ``key`` is one of ``names``."""
    names = list(names)
    if key not in names:
        hint = _near(key, names) or f"; known: {', '.join(names)}"
        raise ConfigProblem(f"{path}{_line(text, key)}: unknown key {key!r}{hint}")


def _near(word: object, words: Iterable[str]) -> str:
    # Only here: who wrote no mistake needs none of it.
    import difflib

    near = difflib.get_close_matches(str(word), list(words), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _line(text: str, key: str) -> str:
    """Return ``:<line>`` of the first line that names ``key``, or nothing."""
    pattern = re.compile(rf'\s*\[*\s*"?{re.escape(key)}"?\s*[=\]:.]')
    found = next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), None)
    return "" if found is None else f":{found}"


def text_of(path: Path) -> str:
    """Read a text file.

    Raises:
        ConfigProblem: it is not there, or no text.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigProblem(f"{path}: not there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path}: cannot be read: {error}") from None


def json_of(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ConfigProblem: it does not.
    """
    try:
        return read_object(text_of(path).encode())
    except Refused as refusal:
        raise ConfigProblem(f"{path}: {refusal.detail}") from None
