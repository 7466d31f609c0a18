"""Promises of the field types: bounded, one spelling, nothing opaque."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas import shapes
from fleetward_schemas.errors import Refused
from fleetward_schemas.shapes import DownBody, UpBody
from fleetward_schemas.strict import b64url, b64url_decode, show_der

GOOD = {
    "Moment": "2026-03-01T12:00:00.000Z",
    "MessageId": "0195514e-6c00-7000-8000-000000000000",
    "Digest": "A" * 43,
    "Session": "A" * 22,
    "Der": "MAA=",
    "Name": "Slap 5",
    "Word": "collect-info",
    "Jws": "e30.e30.QQ",
}
BAD = [
    ("Moment", "2026-03-01T12:00:00Z"),
    ("Moment", "2026-02-30T12:00:00.000Z"),
    ("MessageId", "0195514E-6C00-7000-8000-000000000000"),
    ("MessageId", "0195514e-6c00-4000-8000-000000000000"),
    ("Digest", "A" * 42),
    ("Digest", "A" * 42 + "B"),
    ("Digest", "A" * 43 + "\n"),
    ("Digest", "A" * 43 + "="),
    ("Session", "A" * 21 + "B"),
    ("Session", "A" * 21),
    ("Der", "MAA"),
    ("Der", ""),
    ("Der", "A" * 8196),
    ("Der", "-_8="),
    ("Name", ""),
    ("Name", "x" * 129),
    ("Name", "line\n"),
    ("Name", "é"),
    ("Word", "Two words"),
    ("Word", "-x"),
    ("Word", "x" * 65),
    ("Jws", "e30.e30"),
    ("Jws", "e30.e30."),
    ("Jws", "e30.e30.QQ=="),
    ("Jws", "e30.e30." + "A" * 12288),
]


@pytest.mark.parametrize(("name", "text"), GOOD.items())
def test_a_good_spelling_is_taken(name, text):
    assert shapes.read_as(getattr(shapes, name), text) == text


@pytest.mark.parametrize(("name", "text"), BAD)
def test_another_spelling_is_not(name, text):
    with pytest.raises(Refused):
        shapes.read_as(getattr(shapes, name), text)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_every_32_and_every_16_bytes_have_their_spelling(digest, session):
    assert shapes.read_as(shapes.Digest, b64url(digest))
    assert shapes.read_as(shapes.Session, b64url(session))


@given(st.from_regex(r"\A[A-Za-z0-9_-]{43}\Z"))
def test_no_other_43_characters_are_a_digest(text):
    try:
        shapes.read_as(shapes.Digest, text)
    except Refused:
        return
    assert b64url(b64url_decode(text.encode())) == text


@given(st.binary(min_size=1, max_size=200))
def test_der_is_standard_base64(raw):
    assert shapes.read_as(shapes.Der, show_der(raw))


class Up(UpBody, frozen=True):
    count: int = 0


class Down(DownBody, frozen=True):
    count: int = 0


def test_uplink_is_closed_and_downlink_forgives_what_it_does_not_know():
    assert Down.read({"count": 1, "new": "x"}) == Down(count=1)
    with pytest.raises(Refused):
        Up.read({"count": 1, "new": "x"})


@pytest.mark.parametrize("value", ["1", 1.0, True, None])
def test_types_are_strict_both_ways(value):
    for body in (Up, Down):
        with pytest.raises(Refused):
            body.read({"count": value})


@given(st.text(min_size=25, max_size=400))
def test_no_name_the_sender_invented_is_repeated(name):
    with pytest.raises(Refused) as error:
        Up.read({name: 1})
    assert error.value.detail == "as a whole: a member that is not known"


def test_a_fault_names_the_member_and_never_its_value():
    with pytest.raises(Refused) as error:
        Up.read({"count": "secret"})
    assert error.value.detail == "count: expected int, got str"
