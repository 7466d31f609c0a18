"""Promises of the strict readers: what two readers could read differently is refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas import strict
from fleetward_schemas.errors import Code, Refused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def refused(reader, raw):
    with pytest.raises(Refused) as refusal:
        reader(raw)
    return refusal.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        *(b"QQ==", b"QR", b"Q", b"QUJ", b"Q Q", b"QQ\n", b"\nQQ", b"+-8", b"_/8", b"Q\xc3\x84", b"QQ.", b"Q=Q"),
        *(b'QQ"', b'"QQ', b"Q\\u0051", b"Q\\nQ", b"Q\\/8"),
    ],
)
def test_base64url_has_one_spelling(text):
    assert refused(strict.b64url_decode, text)


@given(st.binary(max_size=200))
def test_base64url_comes_back(raw):
    assert strict.b64url_decode(strict.b64url(raw).encode()) == raw


@given(st.binary(max_size=24))
def test_no_foreign_bytes_are_read_as_base64url(text):
    try:
        raw = strict.b64url_decode(text)
    except Refused:
        return
    assert strict.b64url(raw).encode() == text


@pytest.mark.parametrize("text", ["QQ", "QQ=", "QR==", "QQ==\n", "Q-8=", "QQ==QQ==", "=QQ=", "ÄQ=="])
def test_der_has_one_spelling(text):
    assert refused(strict.b64_der, text)


@given(st.binary(max_size=200))
def test_der_comes_back(raw):
    assert strict.b64_der(strict.show_der(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b"{",
        b"{}{}",
        b"{} x",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":{"a":1,"a":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":0000000000000000000000001}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":0.0000000000000000000000000000001}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":["\\udfff"]}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"/**/{}",
    ],
)
def test_what_is_not_strict_json_is_malformed(raw):
    assert refused(strict.read_object, raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' {"a" : 1 }\n', {"a": 1}),
        (b'{"a":9007199254740991}', {"a": 2**53 - 1}),
        (b'{"a":-9007199254740991}', {"a": 1 - 2**53}),
        (b'{"a":1.5e3}', {"a": 1500.0}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        ('{"a":"é"}'.encode(), {"a": "é"}),
    ],
)
def test_strict_json_is_read(raw, value):
    assert strict.read_object(raw) == value


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_eight_levels_are_read_and_nine_are_not():
    assert strict.read_object(nested(strict.MAX_DEPTH))
    assert refused(strict.read_object, nested(strict.MAX_DEPTH + 1))


def test_arrays_count_as_levels():
    assert strict.read_object(b'{"a":' + b"[" * 7 + b"]" * 7 + b"}")
    assert refused(strict.read_object, b'{"a":' + b"[" * 8 + b"]" * 8 + b"}")


def test_too_many_openers_cost_no_parsing():
    assert refused(strict.read_object, b"[" * (strict.MAX_OPENERS + 1))
    assert strict.read_object(b'{"a":[' + b",".join([b"{}"] * (strict.MAX_OPENERS - 2)) + b"]}")


@pytest.mark.parametrize("depth", [300, 598])
def test_deep_nesting_is_refused_and_never_overflows(depth):
    assert refused(strict.read_object, b'{"a":' + b"[" * depth + b"]" * depth + b"}")


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_canonical_json_is_read_as_every_reader_reads_it(value):
    raw = json.dumps(value).encode("utf-8", "strict")
    try:
        read = strict.read_object(raw)
    except Refused:
        return
    assert read == json.loads(raw)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=4))
def test_no_object_with_a_member_twice_is_read(pairs):
    raw = ("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode()
    if len(dict(pairs)) == len(pairs):
        assert strict.read_object(raw) == dict(pairs)
    else:
        assert refused(strict.read_object, raw)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,8})?([eE][-+]?[0-9]{1,4})?", fullmatch=True))
def test_no_number_is_read_that_is_not_finite_or_not_exact(text):
    try:
        number = strict.read_object(f'{{"n":{text}}}'.encode())["n"]
    except Refused:
        return
    assert math.isfinite(number)
    assert isinstance(number, float) or (abs(number) < 2**53 and number == int(text))


@given(st.text(alphabet='{}[]",:0a\\u d8e-.NI', max_size=24))
def test_nothing_is_read_that_strict_json_would_refuse(text):
    try:
        value = strict.read_object(text.encode())
    except Refused:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == json.loads(text)


def verdict(raw):
    try:
        return repr(strict.read_object(raw))
    except Refused as refusal:
        return refusal.code


@given(
    st.dictionaries(st.text(max_size=4), JSON | st.floats() | st.integers(), max_size=4),
    st.booleans(),
    st.tuples(
        st.integers(0, 60), st.sampled_from(['"', "\\", "{", "}", "[", ",", ":", "0", "1", "e", ".", "-", '"":0,'])
    ),
)
def test_compact_json_is_judged_as_any_other(value, escaped, blot):
    """What is spelled in another way than we spell it has another reader; the same is asked of both."""
    text = json.dumps(value, ensure_ascii=escaped, separators=(",", ":"))
    raw = f"{text[: blot[0]]}{blot[1]}{text[blot[0] :]}".encode()

    assert verdict(text.encode()) == verdict(text.encode() + b" ")
    assert verdict(raw) == verdict(raw + b" ")


@pytest.mark.parametrize("number", ["9007199254740991", "9007199254740992", "-9007199254740992", "1e400", "1.0", "1E2"])
@pytest.mark.parametrize("depth", [1, 8, 9])
def test_numbers_and_depth_are_judged_alike_in_any_spelling(number, depth):
    raw = b'{"a":' * depth + number.encode() + b"}" * depth

    assert verdict(raw) == verdict(raw + b" ")
