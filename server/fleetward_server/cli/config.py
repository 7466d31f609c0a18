"""``fleetward config``: what the configuration says, and whether it holds."""

from dataclasses import fields

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import acting

app = typer.Typer(help="The provider's configuration.", no_args_is_help=True)


@app.command("show")
def show_config(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Show every setting as it applies, defaults included; it holds no secrets, only where they lie."""
    with acting(folder, as_json=as_json) as operator:
        config = operator.config
        tables = {one.name: show.plain(getattr(config, one.name)) for one in fields(config) if one.name != "folder"}
        if as_json:
            show.record({"folder": str(folder), **tables}, as_json=True)
            return
        settings = {f"{table}.{key}": value for table, found in tables.items() for key, value in found.items()}
        show.record({"folder": str(folder), **settings}, as_json=False)


@app.command()
def check(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Say whether the configuration holds; an error names file, table and key."""
    with acting(folder, as_json=as_json) as operator:
        config = operator.config
        show.record({"folder": str(config.folder), "ok": True}, as_json=as_json)
