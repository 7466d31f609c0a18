"""``fleetward bundle``: files for devices that no network reaches, and what comes back from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import FILTER_HELP
from fleetward_server.cli.many import Which, single
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import complain, read_file, telling, translated, whoami
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.bundle import BundleOperator

app = typer.Typer(help="Bundles for devices that never come online.", no_args_is_help=True)


@app.command(epilog=FILTER_HELP)
def create(
    which: Which,
    out: Annotated[Path, typer.Option("--out", help="The file to write; for fleetward-agent bundle apply.")],
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Write a bundle: time floor, open orders, encryption certificates, receipts for what was brought. Good for 7 days.

    Orders that need the line (rotate-key) are named and left out. The server's keys must be there.
    """
    with _acting(folder, actor, as_json=as_json) as operator, translated():
        one = single(operator, which)
        devices = operator.device_ids(operator.selection(which)) if one is None else (one,)
        if not devices:
            raise OperatorProblem(Kind.NOT_FOUND, f"no device fits {which!r}")
        whole, packed = operator.create_bundle(devices, reason)

        from fleetward_broker.durable import write_durably

        write_durably(out, whole)
        show.record({"file": str(out), "bytes": len(whole)} | show.plain(packed), as_json=as_json)


@app.command()
def take(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What fleetward-agent bundle apply --answers wrote.")],
    folder: Dir = HERE,
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Take what a device gave to be carried; its next bundle acknowledges it. Exit 7 if anything was refused."""
    with _acting(folder, actor, as_json=as_json) as operator, translated():
        taken = operator.take_bundle(read_file(file))
        show.record(show.plain(taken), as_json=as_json)
        if taken.refused:
            complain("unverified", f"{file}: {len(taken.refused)} messages refused", as_json=as_json)
            raise typer.Exit(ExitCode.UNVERIFIED)


@contextmanager
def _acting(folder: Path, actor: str, *, as_json: bool) -> Iterator["BundleOperator"]:
    with telling(as_json=as_json):
        from fleetward_server.bundle import BundleOperator

        with BundleOperator(folder, actor or whoami()) as operator:
            yield operator
