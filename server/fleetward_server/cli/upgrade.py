"""``fleetward upgrade``: what devices shall run, and what came of it."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.command import give
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS, plain_words
from fleetward_server.cli.many import Which, Yes, act_on_many, single
from fleetward_server.cli.options import HERE, PAGE, Actor, Dir, Json, Limit, Name, Reason
from fleetward_server.cli.telling import acting, moment
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.assigning import UpgradeWish, Window
    from fleetward_server.mass import MassOperator
    from fleetward_server.upgrade_state import Assignment

app = typer.Typer(help="What devices shall run, and what came of it.", no_args_is_help=True)
COLUMNS = ("device_id", "serial", "name", "running", "assigned", "phase", "attempt", "why", "since")
STEPS = ("at", "name", "version", "state", "reason", "attempt", "assignment", "received_at")
PLANNED = ("device_id", "serial", "running", "assigned", "target", "outcome", "detail")
WATCH_S = 1.0
HOUR_S = 3600
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do to each, and why not.")]
Software = Annotated[str, typer.Option("--name", help="Of this piece of software, as a target's name says.")]


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def assign(
    which: Which,
    target: Annotated[str, typer.Option("--target", help="This released target; see fleetward release list.")] = "",
    name: Annotated[str, typer.Option("--name", help="The newest of this name for each device's model.")] = "",
    begin: Annotated[str, typer.Option("--from", help="Install no earlier: 2026-05-01T22:00:00Z.")] = "",
    end: Annotated[str, typer.Option("--to", help="Begin to install no later.")] = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Have devices run something: what else they shall run stays, and so does a window that none is given for.

    Refused unless it is released, for the device's model, and above what the device runs; there is no way round that.
    """
    with acting(folder, as_json=as_json, actor=actor) as operator:
        if bool(target) == bool(name):
            raise OperatorProblem(Kind.INVALID, "expected either --target PATH or --name NAME")
        one = single(operator, which)
        devices = operator.device_ids(operator.selection(which)) if one is None else (one,)
        if not devices:
            raise OperatorProblem(Kind.NOT_FOUND, f"no device fits {which!r}")
        wish = operator.wish(target, name, devices, _window(begin, end))
        if dry_run:
            show.rows(PLANNED, map(show.plain, operator.plan_upgrades(devices, wish)), as_json=as_json)
        elif one is not None:
            _told(operator.assign(one, wish, reason), "it is so already", as_json=as_json)
        else:
            _many(operator, which, wish, reason, yes=yes, as_json=as_json)


def _window(begin: str, end: str) -> "Window | None":
    if not begin and not end:
        return None
    if not end:
        raise OperatorProblem(Kind.INVALID, "--from: needs --to as well")
    return moment("--from", begin), moment("--to", end)


def _many(
    operator: "MassOperator", which: str, wish: "UpgradeWish | None", reason: str, *, yes: bool, as_json: bool
) -> None:
    from fleetward_server.mass_state import Action, MassWish

    if wish is None:
        act_on_many(operator, MassWish(Action.CANCEL_UPGRADE, {}, which, reason), yes=yes, as_json=as_json)
        return
    mass = MassWish(Action.ASSIGN_UPGRADE, wish.params(), which, reason)
    act_on_many(operator, mass, yes=yes, as_json=as_json)


def _told(made: "Assignment | None", otherwise: str, *, as_json: bool) -> None:
    if made is None:
        show.note(f"nothing changed: {otherwise}")
        show.record({"changed": False}, as_json=as_json)
        return
    show.record({"changed": True, **show.plain(made)}, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def cancel(
    which: Which, folder: Dir = HERE, reason: Reason = "", actor: Actor = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """Take back what devices shall run: what is being installed ends by itself, nothing else is begun."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        one = single(operator, which)
        if one is None:
            _many(operator, which, None, reason, yes=yes, as_json=as_json)
            return
        _told(operator.cancel_upgrades(one, reason), "nothing is assigned to it", as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def unlock(
    which: Which,
    name: Annotated[str, typer.Option("--name", help="Of this piece of software.")],
    folder: Dir = HERE,
    expires_in: Annotated[int, typer.Option("--expires-in", min=1, help="Seconds until it is given up.")] = HOUR_S,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Wait so many seconds for one device's answer.")] = 0,
    reason: Reason = "",
    actor: Actor = "",
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let devices try again what they locked after ten failed attempts: the order unlock-upgrade."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        order = {"verb": "unlock-upgrade", "params": {"name": name}, "expires_in_s": expires_in}
        give(operator, which, order, reason, wait=wait, yes=yes, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def status(
    words: Annotated[list[str] | None, typer.Argument(metavar="[FILTER]...", help="Whose; see below.")] = None,
    folder: Dir = HERE,
    name: Software = "",
    after: Annotated[str, typer.Option("--after", help="Go on after this device's id.")] = "",
    limit: Limit = PAGE,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again each second, on a terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Show for each device and piece of software what it runs, what it shall run and how far it got.

    waiting: not sent yet; sent: no word of it yet; the rest are the device's own words.
    """
    with acting(folder, as_json=as_json) as operator:
        wanted = operator.selection(" ".join(plain_words(words)))

        def look() -> list[show.Row]:
            return [show.plain(line) for line in operator.upgrades(wanted, name, after, limit)]

        if watch:
            _watch(look)
        else:
            show.rows(COLUMNS, look(), as_json=as_json)


def _watch(look: Callable[[], list[show.Row]]) -> None:
    if not sys.stdout.isatty():
        raise OperatorProblem(Kind.INVALID, "--watch: needs a terminal; --json shows how it stands now")
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            live.update(show.table(COLUMNS, look(), live.console.width), refresh=True)
            time.sleep(WATCH_S)


@app.command("show")
def show_one(device: Name, folder: Dir = HERE, limit: Limit = PAGE, *, as_json: Json = False) -> None:
    """Show one device's software, and every word that it said of its upgrades, the oldest first."""
    with acting(folder, as_json=as_json) as operator:
        papers = operator.papers(device)
        software = [show.plain(line) for line in papers.software]
        steps = [show.plain(one) for one in operator.upgrade_history(papers.device.id, limit)]
        if as_json:
            document = {"device_id": papers.device.id, "software": software, "history": steps}
            show.record(document, as_json=True)
            return
        show.rows(COLUMNS[2:], software, as_json=False)
        if steps:
            print("\nhistory")
            show.rows(STEPS, steps, as_json=False)
