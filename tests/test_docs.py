"""The documents say what the code says: generated parts are fresh, and the wire's text leaves nothing out."""

import re
from pathlib import Path

import pytest

from fleetward_sandbox import docs, vectors
from fleetward_schemas.errors import Code
from fleetward_schemas.messages import KINDS

WIRE = docs.HOUSE / "schemas" / "README.md"


def test_no_generated_part_is_out_of_date():
    assert docs.outdated() == []


def test_every_generated_part_stands_somewhere():
    said = {name for path in docs.readmes() for _, name, _ in docs.PART.findall(path.read_text())}
    assert docs.GENERATED.keys() <= said


def test_rendering_twice_changes_nothing():
    once = docs.render(WIRE.read_text())
    assert docs.render(once) == once


def test_a_part_that_is_out_of_date_is_found(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated:metrics -->\nold\n<!-- /generated -->\n")
    assert docs.outdated(tmp_path) == [readme]
    readme.write_text(docs.render(readme.read_text()))
    assert docs.outdated(tmp_path) == []


def test_a_part_nobody_knows_is_an_error():
    with pytest.raises(KeyError):
        docs.render("<!-- generated:weather -->\n<!-- /generated -->")


def test_an_example_is_an_accepted_vector_with_its_long_texts_cut():
    said = docs.example("up-f-hello-ftm")
    assert '"kind": "hello"' in said
    assert all(len(line) < 140 for line in said.splitlines())


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: f"{kind.direction}-{kind.name}")
def test_the_wire_speaks_of_every_kind(kind):
    assert f"**`{kind.name}`** ({kind.direction})" in WIRE.read_text()


@pytest.mark.parametrize("code", list(Code))
def test_the_wire_speaks_of_every_code(code):
    assert f"| `{code}` |" in WIRE.read_text()


def test_a_member_that_is_an_object_or_null_shows_its_own_members():
    assert {"| `window.from` | moment | yes |", "| `window.to` | moment | yes |"} <= set(docs.bodies().splitlines())


def test_the_wire_speaks_of_every_file_of_vectors():
    for name in vectors.RULES:
        assert f"`{name}.json`" in WIRE.read_text()


@pytest.mark.parametrize("path", docs.readmes(), ids=lambda path: path.parent.name)
def test_no_link_inside_a_document_leads_nowhere(path):
    text = path.read_text()
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in anchors


def test_every_test_that_the_table_of_threats_names_is_there():
    named = re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", (docs.HOUSE / "server" / "README.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (docs.HOUSE / "tests" / file).read_text(), f"{file}::{test}"


WHOLE_FOLDERS = {"cli", "mosip", "embedded", "migrations"}
"""Of these the folder alone stands in its room's README."""


def unnamed(room: Path, readme: str) -> list[str]:
    """Return the files of a room that no row of its README names."""
    files = [path.relative_to(room) for path in sorted(room.rglob("*.py")) if not path.name.startswith("__")]
    files = [path for path in files if not WHOLE_FOLDERS & set(path.parts)]
    return [str(path) for path in files if f"`{path}`" not in readme and f"`{path.name}`" not in readme]


@pytest.mark.parametrize("room", ["agent", "broker", "server"])
def test_every_file_of_a_room_stands_in_its_readme(room):
    assert unnamed(docs.HOUSE / room / f"fleetward_{room}", (docs.HOUSE / room / "README.md").read_text()) == []


@pytest.mark.parametrize("room", ["agent", "broker", "server"])
def test_every_file_that_a_rooms_readme_names_is_there(room):
    rows = re.findall(r"^\| (`.+?\.py`.*?) \| ", (docs.HOUSE / room / "README.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)}
    there = {path.name for path in (docs.HOUSE / room).rglob("*.py")}
    assert len(named) > 20
    assert {name.rpartition("/")[2] for name in named} <= there


def test_a_file_that_no_row_names_is_found(tmp_path):
    for name in ("gate.py", "cli/app.py", "store/unit.py", "__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert unnamed(tmp_path, "| `gate.py` | the rule |") == ["store/unit.py"]
    assert unnamed(tmp_path, "| `gate.py` `unit.py` | the rule |") == []
