"""Promises of the exported JSON Schema: it says what the models say, and uplink leaves no room for anything else."""

import json
import re
from collections.abc import Iterator

import jsonschema
import pytest
from referencing import Registry, Resource

from fleetward_sandbox.vector_good import accepted
from fleetward_schemas.export import DIALECT, Schema, export, schemas
from fleetward_schemas.identity import read_identity
from fleetward_schemas.messages import KINDS
from fleetward_schemas.strict import b64url_decode
from fleetward_schemas.topics import Direction

SCHEMAS = schemas()
REGISTRY = Registry().with_resources(
    [(f"{name}.json", Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
)
FORBIDDEN = re.compile("r?capture|bioValue|biometric|bioSubType|sessionKey|template|BIR|BDB|minutiae", re.IGNORECASE)


def fits(name, value):
    return jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY).is_valid(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == DIALECT


def test_every_kind_has_its_schema():
    assert {f"{kind.direction}.{kind.name}" for kind in KINDS.values()} <= SCHEMAS.keys()


def test_what_our_models_accept_the_schemas_accept(author):
    for case in accepted(author):
        side, payload = case.document()["direction"], case.payload()
        assert fits(f"{side}.{payload['kind']}", payload["body"]), case.name
        assert fits("header.envelope", case.header())
        assert fits("members.up" if side == "up" else "members.down", payload), case.name


def test_the_identities_fit_their_schemas(cast, author):
    header = json.loads(b64url_decode(cast.digital_id_a.split(".")[0].encode()))
    assert fits("header.identity", header)
    assert fits("digital-id", read_identity(cast.digital_id_a).digital_id.document())
    info = next(case for case in accepted(author) if case.name == "up-info").payload()["body"]["deviceInfo"]
    assert fits("device-info", json.loads(b64url_decode(info.split(".")[1].encode())))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("up.telemetry", {"readings": []}),
        ("up.time", {"nonce": "A" * 43, "image": ""}),
        ("up.status", {"state": "online", "session": "A" * 22, "reason": "the cat"}),
        ("up.alert", {"code": "odd", "count": 1, "first": "now", "last": "now"}),
        ("header.envelope", {"alg": "none", "typ": "fw1+jws", "x5t#S256": "A" * 43}),
        ("header.envelope", {"alg": "EdDSA", "typ": "fw1+jws"}),
        ("members.up", {}),
    ],
)
def test_what_our_models_refuse_for_its_shape_the_schemas_refuse(name, value):
    assert not fits(name, value)


def parts(schema, path=""):
    """Yield every subschema with its path."""
    if isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from parts(inner, f"{path}/{number}")
    elif isinstance(schema, dict):
        yield path, schema
        for key, inner in schema.items():
            yield from parts(inner, f"{path}/{key}")


def is_bounded(part):
    return "enum" in part or "const" in part or "maxLength" in part or is_finite(part.get("pattern", ".*"))


def is_finite(pattern):
    """Say whether a pattern is anchored at both ends and repeats nothing without an end."""
    return pattern.startswith("^") and pattern.endswith("$") and not re.search(r"(?<!\\)[*+]|,\}", pattern)


def uplink() -> Iterator[tuple[str, Schema]]:
    """Yield name and schema of all that devices say, signed parts included."""
    closed = {f"{kind.direction}.{kind.name}" for kind in KINDS.values() if kind.direction is Direction.UP}
    closed |= {"members.up", "digital-id", "device-info", "header.envelope", "header.identity"}
    yield from ((name, schema) for name, schema in schemas().items() if name in closed)


@pytest.mark.parametrize(("name", "schema"), list(uplink()))
def test_every_text_that_goes_up_is_bounded(name, schema):
    loose = [path for path, part in parts(schema) if part.get("type") == "string" and not is_bounded(part)]
    assert loose == []


@pytest.mark.parametrize(("name", "schema"), list(uplink()))
def test_every_object_that_goes_up_is_closed(name, schema):
    objects = [part for _, part in parts(schema) if part.get("type") == "object" or "properties" in part]
    assert objects
    assert all(part.get("additionalProperties") is False for part in objects)


@pytest.mark.parametrize(("name", "schema"), list(uplink()))
def test_every_part_that_goes_up_says_its_type(name, schema):
    said = {"type", "enum", "const", "$ref", "anyOf", "oneOf"}
    for path, part in parts(schema):
        if path.rsplit("/", 2)[-2:-1] in (["properties"], ["anyOf"]) or path.endswith("/items"):
            assert said & part.keys(), path


@pytest.mark.parametrize(("name", "schema"), list(uplink()))
def test_every_list_that_goes_up_ends(name, schema):
    lists = [path for path, part in parts(schema) if part.get("type") == "array" and "maxItems" not in part]
    assert lists == ([] if name != "header.identity" else ["/properties/x5c"])


PROOFS = {"x5c", "digitalId", "deviceInfo", "deviceCsr", "transportCsr"}
"""Signed or self-signed, parsed to the last byte, and closed inside: nothing else may be longer than 512 characters."""


@pytest.mark.parametrize(("name", "schema"), list(uplink()))
def test_every_long_text_that_goes_up_is_a_proof_of_identity(name, schema):
    long = {
        next(step for step in reversed(path.split("/")) if not step.isdigit() and step != "items")
        for path, part in parts(schema)
        if part.get("maxLength", 0) > 512
    }
    assert long <= PROOFS


def test_a_long_text_that_is_no_proof_would_be_found():
    (path, _) = next((path, part) for path, part in parts(SCHEMAS["up.info"]) if part.get("maxLength", 0) > 512)
    assert path.endswith("/deviceInfo")


def test_no_word_of_a_capture_stands_anywhere():
    said = json.dumps(SCHEMAS) + json.dumps([f"{side}/{kind}" for side, kind in KINDS])
    assert FORBIDDEN.search(said) is None


@pytest.mark.parametrize("word", ["capture", "RCapture", "bioValue", "sessionKey", "isoTemplate"])
def test_such_a_word_would_be_found(word):
    assert FORBIDDEN.search(json.dumps(SCHEMAS | {word: {}}))


def test_uplink_is_all_that_devices_say():
    bodies = {f"up.{kind.name}" for kind in KINDS.values() if kind.direction is Direction.UP}
    others = {"members.up", "digital-id", "device-info", "header.envelope", "header.identity"}
    assert {name for name, _ in uplink()} == bodies | others


def test_the_files_hold_the_schemas(tmp_path):
    written = export(tmp_path / "new")
    assert {path.stem: json.loads(path.read_text()) for path in written} == SCHEMAS
