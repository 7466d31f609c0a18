"""``fleetward broker config``: what a Mosquitto of the operator's own is configured with."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import acting, translated

TLS_PORT = 8883

app = typer.Typer(help="The broker.", no_args_is_help=True)
config = typer.Typer(help="Configuration for a broker that you run yourself.", no_args_is_help=True)
app.add_typer(config, name="config")


@config.command("mosquitto")
def mosquitto_config(
    out: Annotated[Path, typer.Option("--out", help="Where the files go; made if it is not there.")],
    folder: Dir = HERE,
    at: Annotated[
        Path | None, typer.Option("--at", help="The folder's path at the broker's host; OUT if left out.")
    ] = None,
    bind: Annotated[
        str, typer.Option("--bind", help="The address to listen on; that of fleetward.toml if left out.")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    """Write configuration, access list, certificates, revocations and the broker's own key for Mosquitto 2.0."""
    with acting(folder, as_json=as_json) as operator, translated():
        from fleetward_broker.mosquitto import Listen
        from fleetward_server.brokers import export_mosquitto

        table = operator.config.broker
        listen = Listen(bind or table.bind, table.port or TLS_PORT)
        written = export_mosquitto(operator.config, out, at or out.resolve(), listen)
        show.record({"folder": str(out), "files": [path.name for path in written]}, as_json=as_json)


@config.command("acl")
def acl_config(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Print the access list alone: who may write and read which topics, as Mosquitto reads it."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_broker.mosquitto import acl
        from fleetward_server.brokers import views

        text = acl(views(operator.config))
        if as_json:
            show.record({"acl": text}, as_json=True)
        else:
            print(text, end="")
