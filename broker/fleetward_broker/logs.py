"""Log lines: one per event, its name and its fields, as text or JSON, to stderr. Never a payload, key or PIN.

What a line may hold is bounded: a long value is cut, and what is binary or opaque is shown by its length, however deep
it lies and whoever says it, a library's exception too. So is how often one event is told: who is refused a thousand
times a second fills no disk. Source: CONTRIBUTING.md "Style"; C10.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
MOST_CHARS = 300
MOST_RUN = 200
"""Longer than any name, hash or key's thumbprint, and than the path of a file should be."""
_OPAQUE = re.compile(rf"[A-Za-z0-9+/_=-]{{{MOST_RUN + 1},}}")
_BYTES = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
BURST, PER_S = 2000, 20
MOST_EVENTS = 1000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """Print ``moment level event field=value ...``, or the same as one JSON object."""

    def __init__(self, form: str) -> None:
        """Choose ``text`` or ``json``."""
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception is named, its trace kept for ``debug``."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        fields = {name: _plain(value) for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
            fields["detail"] = _plain(str(record.exc_info[1]))
        event = _quiet(record.getMessage())
        if self._json:
            return json.dumps({"at": at, "level": record.levelname.lower(), "event": event, **fields}, default=str)
        shown = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        return f"{at} {record.levelname.lower():7} {event}{' ' if shown else ''}{shown}"


def _plain(value: object) -> object:
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return _quiet(str(value))


def _quiet(text: str) -> str:
    """Return a text on one line, without what is binary or opaque in it, and cut."""
    text = _BYTES.sub("<bytes>", text)
    text = _OPAQUE.sub(lambda found: f"<{len(found[0])} characters>", text)
    shown = "".join(one if one.isprintable() else " " for one in text[:MOST_CHARS])
    return shown if len(text) <= MOST_CHARS else f"{shown}... ({len(text)} characters)"


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text or not text else text


class Calm(logging.Filter):
    """Lets one event through 2000 times at once and 20 times a second; the next line says how many were held back."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """monotonic: seconds."""
        super().__init__()
        self._monotonic = monotonic
        self._told: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the line is told."""
        event, now = f"{record.name} {record.msg}", self._monotonic()
        if event not in self._told and len(self._told) >= MOST_EVENTS:
            self._told.clear()
        left, at, held = self._told.get(event, (float(BURST), now, 0))
        left = min(float(BURST), left + (now - at) * PER_S)
        is_told = left >= 1.0
        self._told[event] = (left - is_told, now, 0 if is_told else held + 1)
        if is_told and held:
            record.held_back = held
        return is_told


def start_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send all log lines to ``stream`` (stderr) from now on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EventFormatter(form))
    handler.addFilter(Calm())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What libraries say is for whoever looks for a fault of theirs.
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger("fleetward").setLevel(level.upper())
