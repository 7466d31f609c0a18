"""A marker planted in each place of a message, and looked for in each of its spellings (C10)."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from fleetward_schemas.jws import compact


def spellings(marker: str) -> list[bytes]:
    """Return a marker as it is, in hex, and as it looks inside base64url at any of three offsets, twice over too."""
    raw = marker.encode()
    inside = _inside(raw)
    return [raw, raw.hex().encode(), *inside, *(twice for one in inside for twice in _inside(one))]


def _inside(raw: bytes) -> list[bytes]:
    cut = [base64.urlsafe_b64encode(b"x" * offset + raw + b"xx").rstrip(b"=") for offset in range(3)]
    return [one[4:-4] for one in cut]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every member, at any depth, the whole included."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield from places(inner, (*path, name))


def marked(value: Any, path: tuple[Any, ...], number: int) -> Iterator[tuple[str, Any]]:
    """Yield markers, one as texts may be and one as words may be, each with a copy that it is planted in."""
    for marker in (f"Canary{number:04d}ZqXvCanary", f"canary-{number:04d}-zqxv-canary"):
        for spoiled in planted(value, path, marker):
            yield marker, spoiled


def planted(value: Any, path: tuple[Any, ...], marker: str) -> Iterator[Any]:
    """Yield copies with the marker as a value at ``path``, and, if that is an object, as a new member and its name."""
    if path:
        yield _changed(value, path, marker)
    found = value
    for step in path:
        found = found[step]
    if isinstance(found, dict):
        yield _changed(value, path, found | {"image": marker})
        yield _changed(value, path, found | {marker: 1})
    elif isinstance(found, list):
        yield _changed(value, path, [*found, marker])


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


def sealed(raw: bytes, payload: Any, key: Any) -> bytes:
    """Return an envelope with another payload under a good signature."""
    return compact(raw.split(b".")[0], json.dumps(payload).encode(), key)
