"""``fleetward command``: orders to devices, durable until answered."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS
from fleetward_server.cli.many import Which, Yes, act_on_many, single
from fleetward_server.cli.options import HERE, PAGE, Actor, Dir, Json, Limit, Reason
from fleetward_server.cli.telling import acting
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.mass import MassOperator
    from fleetward_server.operations import Commands
    from fleetward_server.state import Command

app = typer.Typer(help="Orders to devices.", no_args_is_help=True)
COLUMNS = ("id", "device_id", "verb", "step", "last_reason", "actor", "created_at", "expires_at")
VERBS = "collect-info, sync-time, rotate-key, retire or unlock-upgrade (--param name=...)."
POLL_S = 0.2
WEEK_S = 7 * 24 * 3600
ENDS = {
    "succeeded": ExitCode.OK,
    "refused": ExitCode.HELD,
    "failed": ExitCode.UNEXPECTED,
    "expired": ExitCode.TIMEOUT,
    "superseded": ExitCode.CONFLICT,
}


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def send(
    which: Which,
    verb: Annotated[str, typer.Argument(metavar="COMMAND", help=VERBS)],
    param: Annotated[list[str] | None, typer.Option("--param", help="name=value; may be repeated.")] = None,
    folder: Dir = HERE,
    expires_in: Annotated[int, typer.Option("--expires-in", min=1, help="Seconds until it is given up.")] = 3600,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Wait so many seconds for one device's answer.")] = 0,
    reason: Reason = "",
    actor: Actor = "",
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Order devices to do something; with --wait the exit code tells what became of it.

    0 succeeded, 6 refused by the device, 1 failed, 8 no answer in time (the order stays until it expires).
    """
    with acting(folder, as_json=as_json, actor=actor) as operator:
        order = {"verb": verb, "params": _params(param or []), "expires_in_s": expires_in}
        give(operator, which, order, reason, wait=wait, yes=yes, as_json=as_json)


def give(
    operator: "MassOperator", which: str, order: dict[str, Any], reason: str, *, wait: float, yes: bool, as_json: bool
) -> None:
    """Give an order to one device or to those that a filter means; ends with the command's exit code."""
    device_id = single(operator, which)
    if device_id is not None:
        _send_one(operator, operator.send_command(device_id, **order, reason=reason), wait, as_json)
        return
    from fleetward_server.mass_state import Action, MassWish

    if wait:
        raise OperatorProblem(Kind.INVALID, "--wait: is for one device; fleetward command list --open shows many")
    act_on_many(operator, MassWish(Action.COMMAND, order, which, reason), yes=yes, as_json=as_json)


def _send_one(operator: "Commands", command: "Command", wait: float, as_json: bool) -> None:
    if wait:
        show.note(f"waiting for {command.device_id}")
        command = answered(operator, command, wait)
    show.record(told(command), as_json=as_json)
    if wait:
        raise typer.Exit(ENDS.get(command.step, ExitCode.TIMEOUT))


@app.command("show")
def show_command(
    command_id: Annotated[str, typer.Argument(metavar="ID", help="The command's id.")],
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Show one command as it stands."""
    with acting(folder, as_json=as_json) as operator:
        show.record(told(operator.command(command_id)), as_json=as_json)


@app.command("list")
def list_commands(
    device: Annotated[str, typer.Option("--device", help="Of this device: id, its beginning, or serial.")] = "",
    after: Annotated[str, typer.Option("--after", help="Go on after this command's id.")] = "",
    folder: Dir = HERE,
    limit: Limit = PAGE,
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Only those without a final answer.")] = False,
    as_json: Json = False,
) -> None:
    """List commands, oldest first."""
    with acting(folder, as_json=as_json) as operator:
        device_id = operator.device(device).id if device else None
        found = operator.commands(device_id, open_only=open_only, limit=limit, after=after)
        show.rows(COLUMNS, map(told, found), as_json=as_json)
        if len(found) == limit:
            show.note(f"there may be more: --after {found[-1].id}")


def told(command: "Command") -> dict[str, Any]:
    """Return a command as JSON has it; its parameters are kept as text."""
    return {**show.plain(command), "params": json.loads(command.params)}


def answered(operator: "Commands", command: "Command", wait_s: float) -> "Command":
    """Look again until the command is at an end, at most for ``wait_s``."""
    until = time.monotonic() + wait_s
    while command.step not in ENDS and time.monotonic() < until:
        time.sleep(POLL_S)
        command = operator.command(command.id)
    return command


def _params(pairs: list[str]) -> dict[str, object]:
    params: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise OperatorProblem(Kind.INVALID, f"--param {pair!r}: expected name=value")
        params[name] = value
    return params
