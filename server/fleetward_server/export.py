"""Reports as lines for other programs: JSON Lines, or CSV with one column per metric. Streams; nothing is gathered.

A cell never begins with a character that spreadsheets take for a formula: ids, moments and numbers cannot.
Source: RFC 4180; https://jsonlines.org.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator

from fleetward_schemas.moment import show
from fleetward_schemas.telemetry import METRICS
from fleetward_server.state import Report

TELEMETRY = "telemetry"
REPORT_COLUMNS = ("device_id", "id", "kind", "at", "received_at")
READING_COLUMNS = ("observedAt", "uncertaintyMs")


def members(report: Report) -> dict[str, object]:
    """Return a report as one JSON object."""
    return {
        "device_id": report.device_id,
        "id": report.id,
        "kind": report.kind,
        "at": show(report.at),
        "received_at": show(report.received_at),
        "body": json.loads(report.body),
    }


def json_lines(reports: Iterable[Report], _: str) -> Iterator[str]:
    """Yield one JSON object a line."""
    for report in reports:
        yield json.dumps(members(report), separators=(",", ":")) + "\n"


def csv_lines(reports: Iterable[Report], kind: str) -> Iterator[str]:
    """Yield a header, then a line per reading (telemetry) or per report with its body as JSON (other kinds)."""
    columns = (*REPORT_COLUMNS, *READING_COLUMNS, *METRICS) if kind == TELEMETRY else (*REPORT_COLUMNS, "body")
    yield _line(columns)
    for report in reports:
        row = members(report)
        start = [row[column] for column in REPORT_COLUMNS]
        if kind != TELEMETRY:
            yield _line([*start, report.body])
            continue
        for reading in json.loads(report.body)["readings"]:
            numbers = [reading["metrics"].get(metric, "") for metric in METRICS]
            yield _line([*start, *(reading[column] for column in READING_COLUMNS), *numbers])


def _line(cells: Iterable[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


FORMATS: dict[str, Callable[[Iterable[Report], str], Iterator[str]]] = {"jsonl": json_lines, "csv": csv_lines}
