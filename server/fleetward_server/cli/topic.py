"""``fleetward topic tail``: what goes over the line, verified and explained; never a payload."""

import json
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import acting
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_broker.line import Arrived, Dial
    from fleetward_server.config import Config
    from fleetward_server.explain import Explained

app = typer.Typer(help="What goes over the line.", no_args_is_help=True)
EVERYTHING = "fw/v1/#"
POLL_S = 0.2
SUFFIX_BYTES = 16
COLUMNS = ("at", "verdict", "topic", "id", "seq", "age_s", "signer", "size_bytes")


@app.callback()
def _topic() -> None:
    """Keep ``tail`` a command of its own."""


@app.command()
def tail(
    wanted: Annotated[str, typer.Argument(metavar="FILTER", help="An MQTT topic filter.")] = EVERYTHING,
    folder: Dir = HERE,
    count: Annotated[int, typer.Option("--count", min=0, help="End after so many; 0: go on.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="End after so long; 0: go on.")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Listen as the server and explain each envelope: kind, id, seq, age, signer, verdict. Never what it says.

    With --json, one document a message. It listens beside the server and takes nothing from it.
    """
    with acting(folder, as_json=as_json) as operator, operator.opened() as store:
        from fleetward_server.explain import Onlooker
        from fleetward_server.generations import own_anchors

        config, stopping = operator.config, threading.Event()
        onlooker = Onlooker(store, own_anchors(config))
        signal.signal(signal.SIGINT, lambda *_: stopping.set())
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        until = time.monotonic() + seconds if seconds else float("inf")
        for number, arrived in enumerate(_arrivals(config, wanted, stopping, until), 1):
            told = onlooker.explain(arrived.topic, arrived.payload, datetime.now(UTC), retained=arrived.retained)
            print(_line(told, as_json=as_json), flush=True)
            if number == count:
                return
        if stopping.is_set():
            raise typer.Exit(ExitCode.INTERRUPTED)


def _arrivals(config: "Config", wanted: str, stopping: threading.Event, until: float) -> Iterator["Arrived"]:
    from fleetward_broker.line import Arrived, Connected, Lost
    from fleetward_broker.link import SelectorLink

    link: SelectorLink = SelectorLink(time.monotonic)
    dial = _dial(config, wanted)
    line = link.open(lambda: dial)
    try:
        while not stopping.is_set() and time.monotonic() < until:
            for event in link.poll(POLL_S):
                if isinstance(event, Arrived):
                    yield event
                elif isinstance(event, Connected):
                    show.note(f"listening to {wanted} at {dial.host}:{dial.port}")
                elif isinstance(event, Lost):
                    raise OperatorProblem(Kind.FAILED, f"{dial.host}:{dial.port}: {event.loss} {event.detail}".strip())
        link.close(line)
        link.poll(POLL_S)
    finally:
        link.shutdown()


def _dial(config: "Config", wanted: str) -> "Dial":
    from fleetward_broker.line import Dial
    from fleetward_broker.tls import CredentialsUnusable, client_context
    from fleetward_server.running import running

    pki = config.pki
    try:
        context = client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem")
    except CredentialsUnusable as problem:
        raise OperatorProblem(Kind.INVALID, str(problem)) from None
    port = (running(config.folder) or {}).get("port", config.broker.port)
    return Dial(
        host=config.broker.host,
        port=int(port),
        server_name=config.broker.host,
        # A name of its own: with the server's it would take the server's place on the line.
        client_id=f"server-{secrets.token_hex(SUFFIX_BYTES)}",
        context=context,
        clean=True,
        subscriptions=((wanted, 0),),
    )


def _line(told: "Explained", *, as_json: bool) -> str:
    if as_json:
        return json.dumps(show.plain(told))
    found = show.plain(told)
    return "  ".join(show.word(found[column]) or "-" for column in COLUMNS)
