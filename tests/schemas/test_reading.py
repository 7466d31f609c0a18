"""The reader under all shapes: a pattern ends where its text ends, and a fault repeats nothing that a sender said."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_sandbox.vector_good import READING, accepted
from fleetward_schemas import moment, shapes
from fleetward_schemas.clock import TimeAnswer
from fleetward_schemas.commands import Command
from fleetward_schemas.envelope import DownMembers, Draft, Members, Seal, seal
from fleetward_schemas.errors import LocalMistake, Refused
from fleetward_schemas.messages import KINDS
from fleetward_schemas.shapes import Body, UpBody, read_as, read_json, read_own
from fleetward_schemas.strict import b64_der
from fleetward_schemas.telemetry import Telemetry
from fleetward_schemas.topics import Direction, up
from tests.schemas.test_shapes import GOOD

MARKER = "zqxvBiometrics"
WORDS = (MARKER, f"x` - at `$.{MARKER}", f"Expected `{MARKER}`", f"x - at `$[12345].{MARKER}`", f"{MARKER}`, got `int`")
"""What a sender may hope that is repeated: a plain word, and spellings of the library's own messages."""


def patterns(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for inner in schema for found in patterns(inner)]
    if not isinstance(schema, dict):
        return []
    own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    return own + [found for inner in schema.values() for found in patterns(inner)]


@pytest.mark.parametrize("shape", [Members, *dict.fromkeys(kind.body for kind in KINDS.values())])
def test_every_pattern_holds_a_text_at_both_of_its_ends(shape: type[Body]) -> None:
    for pattern in patterns(msgspec.json.schema(shape)):
        assert pattern.startswith(r"\A")
        assert pattern.endswith(r"\Z")
        assert not re.search(r"(?<!\\)[\^$]", re.sub(r"\[[^]]*\]", "", pattern))


@pytest.mark.parametrize(("name", "text"), GOOD.items())
@pytest.mark.parametrize("end", ["\n", " ", "\r\n", "\0"])
def test_nothing_stands_behind_a_good_spelling(name: str, text: str, end: str) -> None:
    assert read_as(getattr(shapes, name), text) == text
    if (name, end) != ("Name", " "):
        with pytest.raises(Refused):
            read_as(getattr(shapes, name), text + end)


def is_taken(reader: Callable[[], object]) -> bool:
    try:
        reader()
    except Refused:
        return False
    return True


def agrees(text: str) -> bool:
    """Return whether the shape and ``moment.parse`` judge alike."""
    return is_taken(lambda: read_as(shapes.Moment, text)) is is_taken(lambda: moment.parse(text))


@pytest.mark.parametrize("year", [0, 1, 4, 100, 400, 1900, 1996, 2000, 2023, 2024, 2100, 9996, 9999])
def test_a_moments_day_is_one_that_exists(year: int) -> None:
    for month in range(14):
        for day in range(33):
            assert agrees(f"{year:04}-{month:02}-{day:02}T23:59:59.999Z")


@given(st.dates(), st.integers(0, 24 * 3600 * 1000 - 1))
def test_every_moment_there_is_has_its_spelling(day: date, ms: int) -> None:
    text = moment.show(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(milliseconds=ms))
    assert read_as(shapes.Moment, text) == text


@given(st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\n?\Z"))
def test_no_other_is_taken(text: str) -> None:
    assert agrees(text)


@given(st.from_regex(r"\A[A-Za-z0-9+/]{2,9}={0,3}\n?\Z"))
def test_base64_is_judged_as_its_decoder_does(text: str) -> None:
    wanted = len(text) >= 4 and is_taken(lambda: b64_der(text))
    assert is_taken(lambda: read_as(shapes.Der, text)) is wanted


def planted(document: Any, word: str) -> list[Any]:
    """Return the document once for each place in it, with a value replaced or a member added or renamed."""
    if isinstance(document, list):
        each = [(n, made) for n, one in enumerate(document) for made in planted(one, word)]
        return [word, *([*document[:n], made, *document[n + 1 :]] for n, made in each)]
    if not isinstance(document, dict):
        return [word, {word: word}, [word]]
    changed = [document | {name: made} for name, inner in document.items() for made in planted(inner, word)]
    renamed = [{word if name == old else name: inner for name, inner in document.items()} for old in document]
    return [word, document | {word: word}, document | {word: {word: [word]}}, *renamed, *changed]


def told(shape: type[Body], document: Any) -> str:
    """Return what a refusal says; nothing where there is none."""
    try:
        shape.read(document)
    except Refused as refusal:
        return str(refusal)
    return ""


def test_nothing_a_sender_says_is_repeated_wherever_it_stands(author: Any) -> None:
    said = []
    for case in accepted(author):
        payload, direction = case.payload(), Direction(case.document()["direction"])
        members = Members if direction is Direction.UP else DownMembers
        body = KINDS[direction, payload["kind"]].body
        for word in WORDS:
            said += [told(members, document) for document in planted(payload | {"body": {}}, word)]
            said += [told(body, document) for document in planted(payload["body"], word)]
    assert sum(map(bool, said)) > 1000
    assert not [one for one in said if "zqxv" in one or "12345" in one]
    assert {one.partition(":")[0] for one in said} == {"", "bad-body"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observedAt": "2026-02-30T12:00:00.000Z"}, "readings.0.observedAt: not of its form"),
        ({"uncertaintyMs": -1}, "readings.0.uncertaintyMs: expected int >= 0"),
        ({"uncertaintyMs": True}, "readings.0.uncertaintyMs: expected int, got bool"),
        ({"metrics": {}}, "readings.0.metrics: expected object of length >= 1"),
        ({"metrics": {"uptimeS": "1"}}, "readings.0.metrics....: expected int | float, got str"),
        ({"metrics": {"uptimeS": -1}}, "readings.0: uptimeS outside 0..1e+10"),
        ({"metrics": {"fps": 1}}, "readings.0: a metric that is not in the list"),
        ({"fps": 1}, "readings.0: a member that is not known"),
    ],
)
def test_a_fault_is_told_by_its_place_and_by_what_was_expected(change: dict[str, object], said: str) -> None:
    with pytest.raises(Refused) as refusal:
        Telemetry.read({"readings": [READING.document() | change]})
    assert refusal.value.detail == said.replace("....", "")


def test_what_is_missing_is_told() -> None:
    with pytest.raises(Refused, match=r"bad-body: readings.0.metrics: missing"):
        Telemetry.read({"readings": [{"observedAt": "2026-03-01T12:00:00.000Z", "uncertaintyMs": 1}]})


def test_what_we_say_ourselves_is_read_before_it_is_sealed(cast: Any) -> None:
    with_seal, now = Seal.by_thumbprint(cast.device_b.key, "A" * 43), datetime(2026, 3, 1, tzinfo=UTC)
    for readings, said in (([READING], ""), ([], "readings: expected"), ([READING, "none"], "readings.1: expected")):
        draft = Draft(
            up(cast.id_b, "telemetry"),
            GOOD["MessageId"],
            1,
            cast.digital_id_b,
            Telemetry(readings=readings),  # type: ignore[arg-type]
        )
        if not said:
            assert seal(draft, with_seal, now)
            continue
        with pytest.raises(LocalMistake, match=said):
            seal(draft, with_seal, now)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: f"{kind.direction}.{kind.name}")
def test_what_is_written_is_what_is_read(author: Any, kind: Any) -> None:
    for case in accepted(author):
        document = case.document()
        if (document["direction"], case.payload()["kind"]) == (kind.direction, kind.name):
            body = kind.body.read(case.payload()["body"])
            assert kind.body.read(body.document()) == read_json(kind.body, body.json().encode()) == body


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Own(UpBody, frozen=True):
    colour: Colour
    side: Literal["left", "right"] | None = None
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"colour": "green"}, "colour: expected red or blue"),
        ({"colour": "red", "side": "up"}, "side: expected left or right"),
        ({"colour": "red", "count": 0}, "count: expected int >= 1"),
        ({"colour": "red", "colr": 1}, "colr: not known; known: colour, side, count"),
        ([], "as a whole: expected object, got array"),
    ],
)
def test_a_file_of_an_operators_is_told_of_more_plainly(document: object, said: str) -> None:
    assert read_own(Own, {"colour": "red"}) == Own(colour=Colour.RED)
    with pytest.raises(Refused) as refusal:
        read_own(Own, document)
    assert refusal.value.detail == said


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 200_000, b'{"colour": "green"}', b'{"colour": NaN}'])
def test_a_broken_file_of_ours_is_refused(raw: bytes) -> None:
    assert read_json(Own, b'{"colour": "red"}') == Own(colour=Colour.RED)
    with pytest.raises(Refused):
        read_json(Own, raw)


def test_a_shape_cannot_be_changed_and_a_copy_is_another() -> None:
    answer = TimeAnswer(nonce=GOOD["Digest"], received=GOOD["Moment"], sent=GOOD["Moment"], radiusMs=1)
    with pytest.raises(AttributeError):
        answer.radiusMs = 2  # type: ignore[misc]
    assert answer.changed(radiusMs=2) != answer
    assert answer.changed(radiusMs=2).changed(radiusMs=1) == answer


def test_a_commands_parameters_are_counted() -> None:
    lawful = {"commandId": GOOD["MessageId"], "command": "retire"}
    assert Command.read(lawful | {"params": {str(n): n for n in range(16)}})
    with pytest.raises(Refused, match="params: expected object of length <= 16"):
        Command.read(lawful | {"params": {str(n): n for n in range(17)}})
