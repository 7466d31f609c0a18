"""Acts on one device or on many: whom a word means, the question before, progress, and what it ended with.

Many are counted and asked for; no terminal to ask on, and it needs ``--yes``. Source: mass.py.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import plain_words
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_schemas.topics import DeviceId
    from fleetward_server.mass import MassOperator
    from fleetward_server.mass_state import MassAct, MassWish, Tally


def _meant(word: str) -> str:
    """Refuse an option, and what a script's unset variable leaves: an act on every device has to be spelled."""
    if not word.strip():
        raise typer.BadParameter("is empty, which would mean every device; if that is meant: 'id:*'")
    return plain_words([word])[0]


Which = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE|FILTER",
        help="An id, 4 or more of its first characters, a serial; or a filter.",
        callback=_meant,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before acting on many.")]
SHOWN_FAILURES = 20


def single(operator: "MassOperator", text: str) -> "DeviceId | None":
    """Return the one device that a word names; None when it is a filter.

    Raises:
        OperatorProblem: ``not-found``; ``invalid``: several begin so, or it is no filter either.
    """
    try:
        return operator.device(text).id
    except OperatorProblem as problem:
        if problem.kind is not Kind.NOT_FOUND:
            raise
        name = operator.selection(text).name
        if name == text:
            raise
    return None if name is None else operator.device(name).id


def act_on_many(operator: "MassOperator", wish: "MassWish", *, yes: bool, as_json: bool) -> None:
    """Count, ask, do it, and tell what became of it; ends with the command's exit code."""
    from fleetward_server.mass import check

    check(wish)
    devices = operator.device_ids(operator.selection(wish.filter))
    if not devices:
        raise OperatorProblem(Kind.NOT_FOUND, f"no device fits {wish.filter!r}")
    _ask(f"{wish.action}: {_counted(len(devices))} ({wish.filter})", yes=yes)
    carry_on(operator, operator.begin_mass(wish, devices), as_json=as_json)


def carry_on(operator: "MassOperator", act: "MassAct", *, as_json: bool) -> None:
    """Do what is left of an act; ends with the command's exit code."""
    again = resuming(act.id, operator.folder)
    show.note(f"mass act {act.id}; after a break: {again}")
    try:
        with _progress(operator.mass_tally(act.id)) as told:
            tally = operator.continue_mass(act.id, told)
    except KeyboardInterrupt:
        show.note(f"interrupted, {_counted(operator.mass_tally(act.id).left)} left; go on with: {again}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    show_act(operator, act.id, as_json=as_json)
    if tally.failed:
        raise typer.Exit(ExitCode.CONFLICT)


def show_act(operator: "MassOperator", act_id: str, *, as_json: bool) -> None:
    """Print an act, its numbers, and whom it could not be done to."""
    from fleetward_server.mass_state import Outcome

    failures = [show.plain(one) for one in operator.mass_targets(act_id, (Outcome.FAILED,))]
    document = summary(operator.mass_act(act_id), operator.mass_tally(act_id))
    if as_json:
        show.record({**document, "failures": failures}, as_json=True)
        return
    show.record(document, as_json=False)
    if failures:
        print("\nfailures")
        show.rows(("device_id", "detail"), failures[:SHOWN_FAILURES], as_json=False)
    if len(failures) > SHOWN_FAILURES:
        show.note(f"and {len(failures) - SHOWN_FAILURES} more: --json shows all")


def summary(act: "MassAct", tally: "Tally") -> dict[str, object]:
    """Return an act on one line."""
    return {**show.plain(act), "params": json.loads(act.params), "total": tally.total, **show.plain(tally)}


def resuming(act_id: str, folder: Path) -> str:
    """Return the command that goes on with an act."""
    return f"fleetward mass resume {act_id} --dir {shlex.quote(str(folder))}"


def _counted(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"


def _ask(what: str, *, yes: bool) -> None:
    """Ask on the terminal.

    Raises:
        OperatorProblem: ``held``: nobody can be asked, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperatorProblem(Kind.HELD, f"{what}: nothing was done; say --yes")
    if not typer.confirm(f"{what}. Go on?", err=True):
        raise OperatorProblem(Kind.HELD, f"{what}: nothing was done")


@contextmanager
def _progress(start: "Tally") -> Iterator[Callable[["Tally"], None]]:
    """Give what tells of progress: a bar on a terminal's stderr, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=start.total, completed=start.total - start.left)
        yield lambda tally: bar.update(task, completed=tally.total - tally.left)
