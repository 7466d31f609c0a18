"""``fleetward compliance``: proof for auditors, and the search for what must not be anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import telling, translated
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from datetime import datetime

    from fleetward_server.compliance_live import Figures

app = typer.Typer(
    help="Proof for auditors: clause by clause, and that nothing biometric is kept.", no_args_is_help=True
)
NONE = Path()


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="Write the report there, one HTML file.")] = NONE,
    junit: Annotated[Path, typer.Option("--junit", help="Results of tests: a JUnit file, of this very commit.")] = NONE,
    commit: Annotated[str, typer.Option("--commit", help="Which commit this program is of.")] = "",
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Show each clause of the specification: where it is, which tests show it, what they said; and live figures.

    Ends with 7 if a test of a clause failed. Without --commit: that of the checkout the program runs from.
    """
    with telling(as_json=as_json), translated():
        from datetime import UTC, datetime

        from fleetward_broker.durable import write_durably
        from fleetward_server.compliance_report import commit_of, compose, page
        from fleetward_server.compliance_results import read_results

        if out == NONE and not as_json:
            raise OperatorProblem(Kind.INVALID, "--out FILE.html: where to write the report; or --json")
        now = datetime.now(UTC)
        results = None if junit == NONE else read_results(junit)
        made = compose(results, commit or commit_of(Path(__file__).parent), _live(folder, now), now)
        if out != NONE:
            write_durably(out, page(made).encode())
        told = {"file": None if out == NONE else str(out), "tally": made.tally, "doubt": made.doubt}
        show.record(show.plain(made) | told if as_json else told, as_json=as_json)
        if made.tally["fails"]:
            raise typer.Exit(ExitCode.UNVERIFIED)


def _live(folder: Path, now: "datetime") -> "Figures | None":
    """Return what a provider's folder says; None when there is no provider."""
    from fleetward_server.compliance_live import figures
    from fleetward_server.config import FILE, load

    if not (folder / FILE).is_file():
        show.note(f"{folder}: no provider there, so no live figures (--dir)")
        return None
    return figures(load(folder), now)


@app.command()
def scan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Logs, stores, outboxes; folders whole.")],
    *,
    as_json: Json = False,
) -> None:
    """Search files for marks of biometric data; tells where, never what; ends with 7 if there is any."""
    with telling(as_json=as_json), translated():
        from fleetward_server.compliance_scan import marks

        each = [one for path in files for one in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        found = [mark for path in each if not path.is_dir() for mark in marks(path)]
        show.rows(("path", "offset", "what"), map(show.plain, found), as_json=as_json)
        if found:
            raise typer.Exit(ExitCode.UNVERIFIED)
