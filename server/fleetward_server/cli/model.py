"""``fleetward model``: which makes and models the provider registers."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.telling import acting
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_schemas.identity import DigitalId
    from fleetward_server.settings import ProviderTable

app = typer.Typer(help="Makes and models that may be registered.", no_args_is_help=True)
COLUMNS = ("provider_id", "make", "model", "type", "sub_type", "approved")

Make = Annotated[str, typer.Option("--make", help="As the digital ID spells it.")]
ModelName = Annotated[str, typer.Option("--model", help="As the digital ID spells it.")]
Type = Annotated[str, typer.Option("--type", help="Finger, Iris or Face.")]
SubType = Annotated[str, typer.Option("--sub-type", help="Slap, Single, Touchless; Single, Double; Full face.")]
ProviderId = Annotated[
    str, typer.Option("--provider-id", help="MOSIP's partner id.", show_default="the configuration's")
]


@app.command()
def add(
    make: Make,
    model: ModelName,
    type_: Type,
    sub_type: SubType,
    provider_id: ProviderId = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Approve a make and model."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        of = _identity((make, model, type_, sub_type), provider_id, operator.config.provider)
        show.record(show.plain(operator.add_model(of, reason)), as_json=as_json)


@app.command()
def revoke(
    make: Make,
    model: ModelName,
    type_: Type,
    sub_type: SubType,
    provider_id: ProviderId = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Take an approval back: no device of this model enrols any more; what is registered stays so."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        of = _identity((make, model, type_, sub_type), provider_id, operator.config.provider)
        show.record(show.plain(operator.revoke_model(of, reason)), as_json=as_json)


@app.command("list")
def list_models(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """List every model that was ever judged."""
    with acting(folder, as_json=as_json) as operator:
        show.rows(COLUMNS, map(show.plain, operator.models()), as_json=as_json)


def _identity(kind: tuple[str, str, str, str], provider_id: str, provider: "ProviderTable") -> "DigitalId":
    """Put the four words where a digital ID has them, so that its own rules judge them."""
    from fleetward_schemas.errors import Refused
    from fleetward_schemas.identity import DigitalId
    from fleetward_schemas.shapes import read_own

    named = dict(zip(("make", "model", "type", "deviceSubType"), kind, strict=True))
    named |= {"deviceProvider": provider.name, "deviceProviderId": provider_id or provider.id}
    try:
        return read_own(DigitalId, named | {"serialNo": "any", "dateTime": "1970-01-01T00:00:00Z"})
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, refusal.detail) from None
