"""``fleetward authority``: the provider's own keys change hands."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import acting

app = typer.Typer(help="The provider's own keys: root, issuing CAs, and both ends of the line.", no_args_is_help=True)
CEREMONY = "Folder of the ceremony that made the successor already."
TO = "pkcs11: URI of the token that makes the new key; where the former is if left out."


@app.command()
def rotate(
    office: Annotated[
        str, typer.Argument(metavar="OFFICE", help="root, device-ca, factory-ca, service-ca, broker or server.")
    ],
    to: Annotated[str, typer.Option("--to", help=TO)] = "",
    ceremony: Annotated[Path | None, typer.Option("--ceremony", help=CEREMONY)] = None,
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    root_delivered: Annotated[
        bool, typer.Option("--root-delivered", help="Every device has the present pki/root.pem.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give an office another key; what serves takes it up at once, and what the former issued goes on to count."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.succession import Making

        making = Making(to, ceremony)
        successor = operator.rotate_authority(office, reason, making, root_delivered=root_delivered)
        show.record(show.plain(successor), as_json=as_json)


@app.command("forget-root")
def forget_root(
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    leave_behind: Annotated[
        bool, typer.Option("--leave-behind", help="Also if devices still stand under the former root.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Believe no root any more but the one in office."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        forgotten = operator.forget_root(reason, leave_behind=leave_behind)
        show.record({"forgotten": list(forgotten)}, as_json=as_json)
