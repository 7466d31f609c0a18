"""A log line is an event and its fields: bounded, on one line, never bytes, never a trace (C10)."""

import io
import json
import logging
import sys

import pytest

from fleetward_broker.logs import MOST_CHARS, EventFormatter, start_logging


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("fleetward.x", logging.INFO, __file__, 1, "refused", None, None)
    vars(made).update(fields)
    return made


def test_bytes_are_told_by_their_number_alone() -> None:
    assert json.loads(EventFormatter("json").format(record(payload=b"secret")))["payload"] == "<6 bytes>"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", ["x" * 10_000, {"inner": "x" * 10_000}, ["x" * 10_000]])
def test_a_long_value_is_cut_wherever_it_lies(form: str, value: object) -> None:
    assert len(EventFormatter(form).format(record(detail=value))) < MOST_CHARS + 200


def test_a_short_value_is_shown() -> None:
    assert "code=stale" in EventFormatter("text").format(record(code="stale"))


def test_a_line_is_one_line() -> None:
    assert "\n" not in EventFormatter("text").format(record(detail="two\nlines"))


def test_an_exception_is_named_without_the_values_around_it() -> None:
    try:
        payload = "Canary0001"
        raise ValueError(f"{len(payload)} characters")
    except ValueError:
        line = EventFormatter("json").format(record(exc_info=sys.exc_info()))

    assert json.loads(line)["error"] == "ValueError"
    assert "Canary0001" not in line


def test_lines_go_to_the_stream_in_the_form_that_was_asked() -> None:
    before, level = logging.getLogger().handlers[:], logging.getLogger("fleetward").level
    stream = io.StringIO()
    try:
        start_logging("info", "json", stream)
        logging.getLogger("fleetward.x").info("beacon", extra={"payload": b"12"})
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger("fleetward").setLevel(level)

    assert json.loads(stream.getvalue())["payload"] == "<2 bytes>"
