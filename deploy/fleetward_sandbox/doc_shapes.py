"""Every shape of the wire as a Markdown table, read from the exported JSON Schema.

Source: schemas/README.md; the words for field types are in doc_words.py.
"""

from collections.abc import Iterable
from typing import Any

from fleetward_sandbox.doc_words import FIELDS
from fleetward_schemas import shapes
from fleetward_schemas.export import Schema, field_schema, schemas
from fleetward_schemas.messages import KINDS


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def bodies() -> str:
    """Return every body, member by member."""
    made = schemas()
    parts = [f"**`{k.name}`** ({k.direction})\n\n{_members(made[f'{k.direction}.{k.name}'])}" for k in KINDS.values()]
    return "\n".join(parts)


def other_shapes() -> str:
    """Return the members of what is signed inside messages."""
    made = schemas()
    titles = {"digital-id": "Digital ID", "server-id": "Server identity", "device-info": "Device info"}
    return "\n".join(f"**{title}**\n\n{_members(made[name])}" for name, title in titles.items())


def _members(schema: Schema) -> str:
    if not schema.get("properties"):
        return "No members.\n"
    rows = list(_rows(schema, schema, ""))
    return table(("member", "type", "needed"), rows)


def _rows(schema: Schema, part: Schema, path: str) -> Iterable[tuple[str, str, str]]:
    for name, inner in part["properties"].items():
        inner = _resolved(schema, inner)
        yield f"`{path}{name}`", _type(schema, inner), "yes" if name in part.get("required", ()) else "no"
        within = _resolved(schema, inner.get("items", _present(schema, inner)))
        if within.get("type") == "object" and "properties" in within and name != "metrics":
            yield from _rows(schema, within, f"{path}{name}{'[]' if 'items' in inner else ''}.")


def _present(schema: Schema, part: Schema) -> Schema:
    """Return what a member is where it may be null and is not."""
    options = [_resolved(schema, option) for option in part.get("anyOf", ())]
    objects: list[Schema] = [option for option in options if option.get("type") == "object"]
    return objects[0] if objects else part


def _resolved(schema: Schema, part: Schema) -> Schema:
    reference = part.get("$ref")
    found: Schema = schema["$defs"][reference.rsplit("/", 1)[1]] if reference else part
    return found


def _type(schema: Schema, part: Schema) -> str:
    if "anyOf" in part:
        return " or ".join(_type(schema, _resolved(schema, option)) for option in part["anyOf"])
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return " ".join(f"`{word}`" for word in part["enum"])
    if part["type"] == "array":
        return f"{_count(part)} of {_type(schema, _resolved(schema, part['items']))}"
    if part["type"] == "string":
        return _text(part)
    if part["type"] in {"integer", "number"}:
        return f"{part['type']} {part.get('minimum', '')}..{part.get('maximum', '')}"
    if part["type"] == "object" and part.get("maxProperties"):
        return f"object of at most {part['maxProperties']} members"
    return str(part["type"])


def _count(part: Schema) -> str:
    low, high = part.get("minItems", 0), part["maxItems"]
    return f"{low}..{high}"


def _text(part: Schema) -> str:
    known = {_key(field_schema(getattr(shapes, name))): FIELDS[name][0] for name in FIELDS}
    if _key(part) in known:
        return known[_key(part)]
    form = f", `{part['pattern']}`" if "pattern" in part else ""
    return (
        f"text {part.get('minLength', 0)}..{part.get('maxLength', '')}{form}" if "maxLength" in part else f"text{form}"
    )


def _key(part: Schema) -> tuple[Any, ...]:
    return part.get("pattern"), part.get("minLength"), part.get("maxLength")
