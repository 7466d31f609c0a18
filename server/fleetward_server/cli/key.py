"""``fleetward key``: where keys live."""

from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import acting, translated

app = typer.Typer(help="Keys.", no_args_is_help=True)
COLUMNS = ("name", "place", "state", "certificate", "not_after")


@app.command("list")
def list_keys(
    folder: Dir = HERE,
    *,
    ask: Annotated[
        bool, typer.Option("--check", help="Open each; exit 5 if one is not there, the root's aside.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List every key that the configuration names, where it lives, and when the certificate over it ends."""
    with acting(folder, as_json=as_json) as operator, translated():
        found = operator.keys(ask=ask)
        show.rows(COLUMNS, map(show.plain, found), as_json=as_json)
        # The root's belongs offline.
        if ask and any(one.state != "there" for one in found if one.name != "keys.root"):
            raise typer.Exit(ExitCode.CONFLICT)
