"""JSON Schema (2020-12) of all that can be said, derived from ``KINDS`` and the models.

Uplink is closed everywhere and every text in it is bounded: what cannot be spelled there cannot leave a device (C10).
Rules between members, beyond JSON Schema, are in schemas/README.md.
Source: protocol sections 3 and 4. The one module of this room that writes files.
"""

import json
from collections import ChainMap
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from fleetward_schemas.envelope import DownMembers, Members
from fleetward_schemas.header import TYP
from fleetward_schemas.identity import MAX_DIGITAL_ID_CHARS, DigitalId, ServerId
from fleetward_schemas.inventory import DeviceInfo
from fleetward_schemas.jws import Alg
from fleetward_schemas.messages import KINDS
from fleetward_schemas.shapes import Body, words_of
from fleetward_schemas.telemetry import METRICS
from fleetward_schemas.topics import ID_CHARS, ROOT, Direction

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
PYTHON_BEGIN, PYTHON_END = r"\A", r"\Z"


def schemas() -> dict[str, Schema]:
    """Return every schema by its file's name: each kind's body, the members, both headers, the identities."""
    bodies = {f"{kind.direction}.{kind.name}": kind.body for kind in KINDS.values()}
    models = bodies | {
        "members.up": Members,
        "members.down": DownMembers,
        "digital-id": DigitalId,
        "server-id": ServerId,
        "device-info": DeviceInfo,
    }
    made = {name: _of_model(model, name) for name, model in models.items()}
    return made | {"header.envelope": _header(), "header.identity": _identity_header()}


def export(folder: Path) -> list[Path]:
    """Write every schema into ``folder`` as ``<name>.json`` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{name}.json", schema) for name, schema in schemas().items()]


def _write(path: Path, schema: Schema) -> Path:
    path.write_text(json.dumps(schema, indent=2) + "\n")
    return path


def _of_model(model: type[Body], name: str) -> Schema:
    defs = _plain(msgspec.json.schema(model))["$defs"]
    schema: Schema = {"$schema": DIALECT, "title": name} | defs.pop(model.__name__)
    if defs:
        schema["$defs"] = defs
    _close_metrics(schema)
    if model is Members:
        schema["properties"] |= _members_up()
    if model is DeviceInfo:
        schema["properties"]["digitalId"] = _token(MAX_DIGITAL_ID_CHARS)
    return schema


def _members_up() -> Schema:
    """Write out what other checks hold the members to: a topic of ours, a kind of the table and its body."""
    kinds = [kind.name for kind in KINDS.values() if kind.direction is Direction.UP]
    return {
        "kind": {"enum": kinds},
        "topic": {"type": "string", "pattern": f"^{ROOT}/d/(f-)?[a-z2-7]{{{ID_CHARS}}}/up/({'|'.join(kinds)})$"},
        "digitalId": _token(MAX_DIGITAL_ID_CHARS),
        "body": {"anyOf": [{"$ref": f"up.{name}.json"} for name in kinds]},
    }


def field_schema(field: Any) -> Schema:
    """Return the schema of one field type."""
    schema: Schema = _plain(msgspec.json.schema(field))
    return schema


def _token(maximum: int) -> Schema:
    segment = "[A-Za-z0-9_-]+"
    return {"type": "string", "maxLength": maximum, "pattern": rf"^{segment}\.{segment}\.{segment}$"}


def _plain(value: Any) -> Any:
    """Drop titles and docstrings, which say nothing that a validator asks; anchor patterns as ECMA-262 does."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if key not in {"title", "description"} and item != []}
    return {key: _member(key, item) for key, item in kept.items()}


def _member(key: str, item: Any) -> Any:
    match key, item:
        case "properties" | "$defs", _:
            return {name: _plain(inner) for name, inner in item.items()}
        case "enum", _:
            return _in_order(item)
        case "pattern", str():
            return _ecma(item)
        case _:
            return _plain(item)


def _in_order(words: list[str]) -> list[str]:
    """Return the words of a list as it was declared; the library sorts them."""
    return list(_declared(Body).get(frozenset(words), words))


def _declared(shape: type[Body]) -> dict[frozenset[str], tuple[str, ...]]:
    lists = [words_of(hint) for hint in get_type_hints(shape).values()]
    below = [_declared(one) for one in shape.__subclasses__()]
    return dict(ChainMap({frozenset(words): words for words in lists}, *below))


def _ecma(pattern: str) -> str:
    return f"^{pattern.removeprefix(PYTHON_BEGIN).removesuffix(PYTHON_END)}$"


def _close_metrics(schema: Schema) -> None:
    """Write the closed list of metrics out: the model checks it by a validator of its own."""
    reading = schema.get("$defs", {}).get("Reading")
    if reading is not None:
        reading["properties"]["metrics"] = {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                name: {"type": "number", "minimum": low, "maximum": high} for name, (low, high, _) in METRICS.items()
            },
        }


def _header() -> Schema:
    der = {"type": "string", "minLength": 4, "maxLength": 12288, "pattern": "^[A-Za-z0-9+/]+={0,2}$"}
    members: Schema = {
        "alg": {"enum": [str(alg) for alg in Alg]},
        "typ": {"const": TYP},
        "x5c": {"type": "array", "minItems": 1, "maxItems": 3, "items": der},
        "x5t#S256": {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"},
    }
    one = [{"required": ["x5c"]}, {"required": ["x5t#S256"]}]
    return _object("header.envelope", members, ["alg", "typ"]) | {"oneOf": one}


def _identity_header() -> Schema:
    der = {"type": "string", "minLength": 4, "maxLength": 8192, "pattern": "^[A-Za-z0-9+/]+={0,2}$"}
    members: Schema = {
        "alg": {"enum": [str(alg) for alg in Alg]},
        "typ": {"const": "JWT"},
        "x5c": {"type": "array", "minItems": 1, "items": der},
    }
    return _object("header.identity", members, ["alg", "typ", "x5c"])


def _object(name: str, members: Schema, required: list[str]) -> Schema:
    return {
        "$schema": DIALECT,
        "title": name,
        "type": "object",
        "properties": members,
        "required": required,
        "additionalProperties": False,
    }
