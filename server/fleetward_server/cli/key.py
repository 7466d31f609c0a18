"""``fleetward key``: where keys live, and how those of devices change hands."""

from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.command import WEEK_S, give
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS
from fleetward_server.cli.many import Which, Yes
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import acting, translated

app = typer.Typer(help="Keys.", no_args_is_help=True)
COLUMNS = ("name", "place", "state", "certificate", "not_after")


@app.command("list")
def list_keys(
    folder: Dir = HERE,
    *,
    ask: Annotated[
        bool, typer.Option("--check", help="Open each; exit 5 if one is not there, the roots' aside.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List every key that the configuration names, where it lives, and when the certificate over it ends."""
    with acting(folder, as_json=as_json) as operator, translated():
        found = operator.keys(ask=ask)
        show.rows(COLUMNS, map(show.plain, found), as_json=as_json)
        # Those of roots belong offline.
        if ask and any(one.state != "there" for one in found if ".root" not in one.name):
            raise typer.Exit(ExitCode.CONFLICT)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def rotate(
    which: Which,
    folder: Dir = HERE,
    expires_in: Annotated[int, typer.Option("--expires-in", min=60, help="Seconds until it is given up.")] = WEEK_S,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Wait so many seconds for one device's answer.")] = 0,
    reason: Reason = "",
    actor: Actor = "",
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Order devices to make new keys; the old ones count until they are online under the new.

    Exit codes as of ``command send``. The server does this by itself: see [rotation] in fleetward.toml.
    """
    with acting(folder, as_json=as_json, actor=actor) as operator:
        order = {"verb": "rotate-key", "params": {}, "expires_in_s": expires_in}
        give(operator, which, order, reason, wait=wait, yes=yes, as_json=as_json)
