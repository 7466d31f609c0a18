"""``fleetward telemetry``: what devices reported, to look at and to take away."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, PAGE, Dir, Json, Limit, Since
from fleetward_server.cli.telling import acting, one_of, since
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.operator import LocalOperator
    from fleetward_server.store import ReportFilter

app = typer.Typer(help="What devices reported.", no_args_is_help=True)
COLUMNS = ("device_id", "id", "kind", "at", "received_at", "body")

Device = Annotated[str, typer.Option("--device", help="Of this device: id, its beginning, or serial.")]
ReportKind = Annotated[str, typer.Option("--kind", help="telemetry, info, result or alert.")]


@app.command("list")
def list_reports(
    device: Device = "",
    kind: ReportKind = "telemetry",
    since_text: Since = "",
    after: Annotated[str, typer.Option("--after", help="Go on after this report's id.")] = "",
    folder: Dir = HERE,
    limit: Limit = PAGE,
    *,
    as_json: Json = False,
) -> None:
    """List reports by id, which is each device's own order."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.export import members

        found = operator.reports(_wanted(operator, device, kind, since_text), limit, after)
        show.rows(COLUMNS, map(members, found), as_json=as_json)
        if len(found) == limit:
            show.note(f"there may be more: --after {found[-1].id}")


@app.command("export")
def export_reports(
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "jsonl",
    out: Annotated[Path | None, typer.Option("--out", help="Into this file.", show_default="stdout")] = None,
    device: Device = "",
    kind: ReportKind = "telemetry",
    since_text: Since = "",
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Write every report that is wanted, in order of arrival, any number of them.

    jsonl: one object a report. csv: one line a reading with a column a metric; of other kinds, one line a report.
    With --json the rows go to --out and one document that counts them to stdout.
    """
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.export import FORMATS

        form = one_of("--format", form, FORMATS) or "jsonl"
        if as_json and out is None:
            raise OperatorProblem(Kind.INVALID, "--json needs --out FILE: stdout holds one document")
        wanted = _wanted(operator, device, kind, since_text)
        lines = _written(FORMATS[form](operator.stream_reports(wanted), kind), out)
        if out is not None:
            show.record({"file": str(out), "format": form, "lines": lines}, as_json=as_json)


def _wanted(operator: "LocalOperator", device: str, kind: str, since_text: str) -> "ReportFilter":
    from fleetward_schemas.messages import KINDS
    from fleetward_server.store import ReportFilter

    known = sorted({entry.name for entry in KINDS.values() if entry.report})
    device_id = operator.device(device).id if device else None
    return ReportFilter(device_id, one_of("--kind", kind, known), since(since_text))


def _written(lines: Iterable[str], out: Path | None) -> int:
    count = 0
    with _opened(out) as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        with show.stdout():
            yield sys.stdout
        return
    from fleetward_broker.durable import whole_text

    try:
        with whole_text(out) as file:
            yield file
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{out}: {error.strerror}") from None
