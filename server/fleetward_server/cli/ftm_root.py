"""``fleetward ftm-root``: whose trust modules are believed."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import acting, read_file

app = typer.Typer(help="FTM providers whose chips are believed.", no_args_is_help=True)
COLUMNS = ("name", "subject", "thumbprint", "not_after", "trusted")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The FTM provider's CA certificate, PEM.")],
    name: Annotated[str, typer.Option("--name", help="What to call it.", show_default="the file's name")] = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Trust an FTM provider's root; compare the thumbprint with one you got on another way."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.ftm_root import facts

        root = operator.add_ftm_root(read_file(file), name or file.stem, reason)
        show.record(facts(root), as_json=as_json)


@app.command()
def revoke(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Its name, or the beginning of its thumbprint.")],
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Trust a root no more: its chips cannot enrol from now on."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.ftm_root import facts

        show.record(facts(operator.revoke_ftm_root(root, reason)), as_json=as_json)


@app.command("list")
def list_roots(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """List every root, trusted or no more."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.ftm_root import facts

        show.rows(COLUMNS, map(facts, operator.ftm_roots()), as_json=as_json)
