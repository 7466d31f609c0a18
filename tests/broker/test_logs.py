"""A log line is an event and its fields: bounded, on one line, never bytes, nothing opaque, never a trace (C10)."""

import ast
import base64
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fleetward_broker
import fleetward_server
from fleetward_broker.logs import BURST, MOST_CHARS, MOST_EVENTS, PER_S, Calm, EventFormatter, start_logging


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("fleetward.x", logging.INFO, __file__, 1, "refused", None, None)
    vars(made).update(fields)
    return made


def test_bytes_are_told_by_their_number_alone() -> None:
    assert json.loads(EventFormatter("json").format(record(payload=b"secret")))["payload"] == "<6 bytes>"


SECRETS = b"\xff\xd8\xff\xe0'quoted\"\\"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", [[SECRETS], {"inner": {"deep": SECRETS}}, (1, bytearray(SECRETS)), KeyError(SECRETS)])
def test_bytes_are_not_shown_however_deep_they_lie(form: str, value: object) -> None:
    line = EventFormatter(form).format(record(detail=value))
    assert "quoted" not in line
    assert "<bytes>" in line


def test_what_a_library_says_of_bytes_is_not_shown_either() -> None:
    said = logging.LogRecord("paho", logging.DEBUG, __file__, 1, "received %s", ([SECRETS],), None)
    assert "received [<bytes>]" in EventFormatter("text").format(said)
    try:
        raise ValueError(SECRETS)
    except ValueError:
        line = EventFormatter("json").format(record(exc_info=sys.exc_info()))
    assert json.loads(line)["detail"] == "<bytes>"


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode, bytes.hex])
def test_an_opaque_run_is_told_by_its_length_alone(alphabet: Callable[[bytes], bytes | str]) -> None:
    made = alphabet(bytes(range(256)))
    run = made if isinstance(made, str) else made.decode()
    line = EventFormatter("text").format(record(detail=f"before {run} behind"))
    assert f'detail="before <{len(run)} characters> behind"' in line
    thumbprint, path = "A" * 64, "/var/lib/fleetward/" + "a" * 100
    assert thumbprint in EventFormatter("text").format(record(detail=thumbprint))
    assert path in EventFormatter("text").format(record(detail=path))


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", ["x y" * 10_000, "x" * 10_000, {"inner": "x y" * 10_000}, ["x y" * 10_000]])
def test_a_long_value_is_cut_wherever_it_lies(form: str, value: object) -> None:
    assert len(EventFormatter(form).format(record(detail=value))) < MOST_CHARS + 200


def test_a_short_value_is_shown() -> None:
    assert "code=stale" in EventFormatter("text").format(record(code="stale"))


def test_a_line_is_one_line() -> None:
    said = logging.LogRecord("library", logging.INFO, __file__, 1, "two\r\nlines\x1b[2J", None, None)
    assert "\n" not in EventFormatter("text").format(record(detail="two\nlines"))
    assert EventFormatter("text").format(said).endswith("two  lines [2J")


def test_what_a_peer_chose_speaks_to_no_terminal() -> None:
    line = EventFormatter("text").format(record(topic="fw/\x1b[2Jx\r2026 info forged\u2028é"))
    assert line.isprintable()
    assert "é" in EventFormatter("text").format(record(name_of="José"))


def test_an_event_told_too_often_is_held_back_and_counted_while_others_are_told() -> None:
    now = [0.0]
    calm = Calm(lambda: now[0])
    assert sum(calm.filter(record()) for _ in range(BURST + 50)) == BURST
    other = logging.LogRecord("fleetward.x", logging.INFO, __file__, 1, "connected", None, None)
    assert calm.filter(other)
    now[0] = 1.0
    told = [one for one in [record() for _ in range(PER_S + 5)] if calm.filter(one)]
    assert [vars(one).get("held_back") for one in told] == [50] + [None] * (PER_S - 1)


def test_events_nobody_foresaw_are_forgotten_not_collected() -> None:
    calm = Calm(lambda: 0.0)
    for number in range(5 * MOST_EVENTS):
        calm.filter(logging.LogRecord("fleetward.x", logging.INFO, __file__, 1, f"event {number}", None, None))
    assert len(calm._told) <= MOST_EVENTS


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


FIELDS = {
    *("act", "action", "address", "again_in_s", "code", "codes", "detail", "device", "devices", "domain", "dropped"),
    *(
        "exit",
        "failures",
        "files",
        "filter",
        "host",
        "kicked",
        "limit",
        "loss",
        "messages",
        "part",
        "port",
        "principal",
    ),
    *("radius_ms", "reason", "revoked", "root", "session_present", "source", "thumbprint", "token", "topic", "until"),
    *("wanted", "who", "error"),
}
"""All that a line of broker or server may tell, beside its event."""


def told(path: Path) -> Iterator[tuple[ast.expr, set[str]]]:
    """Yield the event of each log call in a file, and the fields that are spelled there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "log"):
            continue
        spelled = [
            key
            for word in node.keywords
            for part in ast.walk(word.value)
            if isinstance(part, ast.Dict)
            for key in part.keys
        ]
        event = node.args[1 if node.func.attr == "log" else 0]
        assert len(node.args) == (2 if node.func.attr == "log" else 1), f"{path}:{node.lineno}"
        yield event, {str(key.value) for key in spelled if isinstance(key, ast.Constant)}


def is_ours(event: ast.expr) -> bool:
    """Say whether an event is a text that stands in our code, or one of two."""
    each = (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,)
    return all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in each)


def test_every_line_is_an_event_of_ours_and_fields_of_a_closed_list() -> None:
    rooms = [Path(package.__file__).parent for package in (fleetward_broker, fleetward_server)]
    lines = [(path, *one) for room in rooms for path in sorted(room.rglob("*.py")) for one in told(path)]
    assert [path for path, event, _ in lines if not is_ours(event)] == []
    assert {field for _, _, fields in lines for field in fields} <= FIELDS
    assert len(lines) > 50


@pytest.mark.parametrize("line", ['log.info(f"got {x}")', 'log.info("got", extra={"payload": x})', "log.info(x)"])
def test_another_line_would_be_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").write_text(line)
    ((event, fields),) = told(tmp_path / "a.py")
    assert not (is_ours(event) and fields <= FIELDS)
