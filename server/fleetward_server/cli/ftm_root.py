"""``fleetward ftm-root``: whose trust modules are believed."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import about, acting, moment, read_file

app = typer.Typer(help="FTM providers whose chips are believed.", no_args_is_help=True)
COLUMNS = ("name", "subject", "thumbprint", "not_after", "trusted", "allows")
ALLOW = "What its chains may lack, with commas; fleetward ftm-root check tells the words."
CHECKED = ("place", "subject", "not_before", "not_after", "needs", "problem")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The FTM provider's CA certificate, PEM.")],
    name: Annotated[str, typer.Option("--name", help="What to call it.", show_default="the file's name")] = "",
    allow: Annotated[str, typer.Option("--allow", metavar="WORDS", help=ALLOW)] = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Trust an FTM provider's root; compare the thumbprint with one you got on another way."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.ftm_root import facts, read_leniencies

        pem, allowed = read_file(file), read_leniencies(allow)
        with about(file):
            root = operator.add_ftm_root(pem, name or file.stem, reason, allowed)
        show.record(facts(root), as_json=as_json)


@app.command()
def check(
    chain: Annotated[Path, typer.Option("--chain", metavar="FILE", help="The chip's chain, PEM: leaf first.")],
    at: Annotated[str, typer.Option("--at", help="2026-05-01T12:00:00Z.", show_default="now")] = "",
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Tell whether a chain would be believed, and what each of its certificates lacks; changes nothing."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.ftm_check import examine

        pem, when = read_file(chain), moment("--at", at)
        with about(chain):
            verdict = examine(pem, operator.ftm_roots(), when)
        told = {"accepted": verdict.accepted, "said": verdict.said, "root": verdict.root, "needs": verdict.needs}
        show.record(told | ({"certificates": verdict.certificates} if as_json else {}), as_json=as_json)
        if not as_json:
            print()
            show.rows(CHECKED, map(show.plain, verdict.certificates), as_json=False)
        if not verdict.accepted:
            raise typer.Exit(ExitCode.UNVERIFIED)


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
