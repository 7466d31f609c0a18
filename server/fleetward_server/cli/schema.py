"""``fleetward schema``: the wire's shapes for other languages."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import Json
from fleetward_server.cli.telling import telling
from fleetward_server.problem import Kind, OperatorProblem

app = typer.Typer(help="The wire's shapes, for clients in other languages.", no_args_is_help=True)


@app.callback()
def _schema() -> None:
    """Keep ``export`` a command of its own."""


@app.command("export")
def export_schemas(
    out: Annotated[Path, typer.Option("--out", help="A folder; made if missing.")], *, as_json: Json = False
) -> None:
    """Write a JSON Schema for every kind of message."""
    with telling(as_json=as_json):
        from fleetward_schemas.export import export

        try:
            out.mkdir(parents=True, exist_ok=True)
            export(out)
            files = sorted(str(path.relative_to(out)) for path in out.rglob("*.json"))
        except OSError as error:
            raise OperatorProblem(Kind.INVALID, f"{out}: {error.strerror}") from None
        show.record({"folder": str(out), "files": files}, as_json=as_json)
