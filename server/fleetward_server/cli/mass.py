"""``fleetward mass``: acts on many devices, how far they are, and going on after a break."""

from typing import Annotated

import typer

from fleetward_server.cli import many, show
from fleetward_server.cli.options import HERE, PAGE, Actor, Dir, Json, Limit
from fleetward_server.cli.telling import acting

app = typer.Typer(help="Acts on many devices.", no_args_is_help=True)
COLUMNS = (
    "id",
    "action",
    "filter",
    "actor",
    "created_at",
    "finished_at",
    "total",
    "done",
    "unchanged",
    "failed",
    "left",
)
ActId = Annotated[str, typer.Argument(metavar="ID", help="The act's id.")]


@app.command("list")
def list_acts(folder: Dir = HERE, limit: Limit = PAGE, *, as_json: Json = False) -> None:
    """List the latest acts, oldest first; one without finished_at can be gone on with."""
    with acting(folder, as_json=as_json) as operator:
        acts = operator.mass_acts(limit)
        show.rows(COLUMNS, (many.summary(act, operator.mass_tally(act.id)) for act in acts), as_json=as_json)


@app.command("show")
def show_one(act_id: ActId, folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Show one act as it stands, and the devices that it could not be done to."""
    with acting(folder, as_json=as_json) as operator:
        many.show_act(operator, act_id, as_json=as_json)


@app.command()
def resume(act_id: ActId, folder: Dir = HERE, actor: Actor = "", *, as_json: Json = False) -> None:
    """Go on with an act that broke off: what is done stays done, once.

    0 all done, 5 some could not be (they are listed) or nothing was left to do, 130 broken off again.
    """
    with acting(folder, as_json=as_json, actor=actor) as operator:
        many.carry_on(operator, operator.mass_act(act_id), as_json=as_json)
