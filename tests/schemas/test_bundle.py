"""A bundle is read as it was written, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.bundle import FIRST_LINE, MAX_BUNDLE_BYTES, Carried, read_bundle, write_bundle
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES

TWO = (Carried("fw/v1/fleet/beacon", b"a.b.c"), Carried("fw/v1/d/x/down/ack", b"d.e.f"))
WHOLE = write_bundle(TWO)


def code(raw: bytes) -> Code:
    with pytest.raises(Refused) as refusal:
        read_bundle(raw)
    return refusal.value.code


@pytest.mark.parametrize("messages", [TWO, TWO[:1], ()])
def test_what_was_written_is_read(messages: tuple[Carried, ...]) -> None:
    assert read_bundle(write_bundle(messages)) == messages


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_byte_altered_is_refused(place: int, by: int) -> None:
    altered = bytearray(WHOLE)
    altered[place] ^= by
    assert code(bytes(altered)) is Code.MALFORMED


@given(st.integers(0, len(WHOLE) - 1))
def test_any_shorter_one_is_refused(size: int) -> None:
    assert code(WHOLE[:size]) is Code.MALFORMED


@pytest.mark.parametrize(
    "lines", [b"no-space\n", b" a.b.c\n", b"\n", "fw/v1/ü a.b.c\n".encode(), b"t" * 129 + b" a.b.c\n"]
)
def test_a_line_of_another_form_is_refused_under_a_fitting_sum(lines: bytes) -> None:
    assert code(summed(FIRST_LINE + b"\n" + lines)) is Code.MALFORMED


def test_too_much_is_refused_before_it_is_looked_at() -> None:
    assert code(bytes(MAX_BUNDLE_BYTES + 1)) is Code.TOO_LARGE
    long = b"fw/v1/fleet/beacon " + b"a" * (MAX_ENVELOPE_BYTES + 1) + b"\n"
    assert code(summed(FIRST_LINE + b"\n" + long)) is Code.TOO_LARGE


def test_too_much_is_not_written() -> None:
    with pytest.raises(LocalMistake):
        write_bundle([Carried("t", bytes(MAX_BUNDLE_BYTES))])


def summed(body: bytes) -> bytes:
    """End lines of any form with their sum."""
    empty = write_bundle(())
    assert empty.startswith(FIRST_LINE)
    from fleetward_schemas.bundle import _digest

    return body + b"sha256 " + _digest(body) + b"\n"
