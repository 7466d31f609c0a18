"""``fleetward init``, ``up`` and ``down``: make a provider, serve it, stop serving it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import one_of, telling, translated
from fleetward_server.problem import Kind, OperatorProblem

BROKERS = ("embedded", "mosquitto")


@dataclass(frozen=True, slots=True)
class LogChoice:
    """What the options before the command said of logging; children of ``up`` log the same way."""

    level: str
    form: str


def init(
    folder: Dir = HERE,
    name: Annotated[str, typer.Option("--name", help="The provider's legal name.")] = "Example Devices Ltd",
    provider_id: Annotated[str, typer.Option("--provider-id", help="MOSIP's partner id.")] = "example",
    environment: Annotated[
        str, typer.Option("--environment", help="Staging, Developer, Pre-Production or Production.")
    ] = "Developer",
    host: Annotated[str, typer.Option("--host", help="What devices dial; goes into the certificate.")] = "localhost",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the broker listens; 0: any.")] = 8883,
    policy: Annotated[str, typer.Option("--policy", help="listed, or open: a proven FTM is enough.")] = "listed",
    hsm: Annotated[
        str, typer.Option("--hsm", help="pkcs11: URI of the token that makes and keeps the keys; files if left out.")
    ] = "",
    ceremony: Annotated[
        list[Path] | None,
        typer.Option("--ceremony", help="Folder of a ceremony that made the keys already; may be repeated."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a provider: its keys, certificates, store and a commented configuration, in an empty folder."""
    with telling(as_json=as_json), translated():
        from fleetward_schemas.identity import Environment
        from fleetward_server.ca_keys import keys_of
        from fleetward_server.config import LISTINGS
        from fleetward_server.init import Wish, make_provider

        word = one_of("--environment", environment, Environment) or Environment.DEVELOPER
        listing = one_of("--policy", policy, LISTINGS) or LISTINGS[0]
        for label, text in (("--name", name), ("--provider-id", provider_id), ("--host", host)):
            _lawful(label, text)
        if hsm and ceremony:
            raise OperatorProblem(Kind.INVALID, "--hsm, --ceremony: one or the other: keys are made, or were made")
        held = tuple(ceremony or ())
        wish = Wish(name, provider_id, Environment(word), host, port, listing, hsm=hsm, ceremonies=held)
        path = make_provider(folder, wish, datetime.now(UTC), show.note)
        if not held and (warning := keys_of(hsm, folder).warning):
            show.note(warning)
        show.record({"folder": str(folder), "config": str(path)}, as_json=as_json)


def up(
    ctx: typer.Context,
    folder: Dir = HERE,
    broker: Annotated[str, typer.Option("--broker", help="embedded or mosquitto.")] = "embedded",
    *,
    as_json: Json = False,
) -> None:
    """Serve: a broker and a server, watched and restarted, until Ctrl-C or fleetward down."""
    with telling(as_json=as_json), translated():
        from fleetward_server import supervise

        one_of("--broker", broker, BROKERS)
        choice = ctx.obj if isinstance(ctx.obj, LogChoice) else LogChoice("info", "text")
        supervise.up(folder, broker=broker, log_level=choice.level, log_format=choice.form)
        if as_json:
            show.record({"folder": str(folder), "stopped": True}, as_json=True)


def down(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Stop what serves this folder, and wait for its end."""
    with telling(as_json=as_json), translated():
        from fleetward_server import running

        show.record({"stopped": running.down(folder)}, as_json=as_json)


def _lawful(label: str, text: str) -> None:
    """Refuse what a certificate or the configuration could not hold as it is."""
    if not text or len(text) > 64 or not text.isascii() or not text.isprintable() or set(text) & set('"\\'):
        raise OperatorProblem(Kind.INVALID, f"{label} {text!r}: 1 to 64 printable ASCII characters, no quotes")
