"""``fleetward mosip``: what MOSIP was told, what it still is to be told, and what it refused."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.options import HERE, PAGE, Actor, Dir, Json, Limit, Reason
from fleetward_server.cli.telling import acting, one_of, translated
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from datetime import datetime

    from fleetward_server.mass import MassOperator
    from fleetward_server.mosip.onboarding import Hand
    from fleetward_server.mosip.uploading import Step

app = typer.Typer(help="MOSIP: what it was told of devices, and what it refused.", no_args_is_help=True)


@app.command()
def status(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Show whether MOSIP can be reached, and how many tasks are in which state."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.mosip import operating

        with operator.opened() as store:
            show.record(operating.status(operator.config, store), as_json=as_json)


@app.command()
def queue(
    device: Annotated[str, typer.Option("--device", help="Of one device, all that was ever told.")] = "",
    state: Annotated[str, typer.Option("--state", help="waiting, asking, done, dead or dropped.")] = "",
    limit: Limit = PAGE,
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """List what is to be told and what was refused, with MOSIP's own codes; the latest first."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.mosip import operating
        from fleetward_server.mosip.queue import TaskState

        word = one_of("--state", state, TaskState)
        wanted = None if word is None else TaskState(word)
        device_id = operator.device(device).id if device else None
        with operator.opened() as store:
            found = store.mosip_tasks(wanted, device_id, limit)
        show.rows(operating.COLUMNS, operating.shown(found), as_json=as_json)


@app.command()
def retry(
    number: Annotated[int, typer.Argument(metavar="[NUMBER]", help="Which task; 0 with --all.")] = 0,
    device_code: Annotated[
        str, typer.Option("--device-code", help="What MOSIP calls the device, if it was lost.")
    ] = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    every: Annotated[bool, typer.Option("--all", help="All that were refused.")] = False,
    as_json: Json = False,
) -> None:
    """Have what MOSIP refused told again, once the cause is gone."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.mosip import operating

        if every == bool(number):
            raise OperatorProblem(Kind.INVALID, "name one task, or --all; fleetward mosip queue lists them")
        if every and device_code:
            raise OperatorProblem(Kind.INVALID, "--device-code is one device's, so it needs a task's number")
        with operator.opened() as store:
            numbers = operating.refused(store) if every else (number,)
        tasks = [operator.retry_mosip(one, reason, device_code or None) for one in numbers]
        show.rows(operating.COLUMNS, operating.shown(tasks), as_json=as_json)


@app.command()
def certificates(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """List what biometrics are encrypted for, by environment and domain, and why one is missing."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.mosip import operating

        with operator.opened() as store:
            found = store.encryption_certificates()
        show.rows(operating.CERTIFICATES, operating.shown(found, operating.CERTIFICATES), as_json=as_json)


@app.command()
def csr(
    out: Annotated[Path, typer.Option("--out", help="Where the request goes, PEM.")],
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Write the request for MOSIP to certify the device CA's key, signed by that key wherever it lives."""
    with acting(folder, as_json=as_json) as operator, translated():
        from fleetward_broker.durable import write_durably

        write_durably(out, operator.mosip_request())
        show.record({"out": str(out)}, as_json=as_json)


@app.command("import-chain")
def import_chain(
    chain: Annotated[Path, typer.Argument(metavar="FILE", help="What MOSIP signed, and what leads to its root, PEM.")],
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Show MOSIP the chain that it signed over the device CA's key, and for 48 h beside it what it was shown before."""
    with acting(folder, as_json=as_json, actor=actor) as operator, translated():
        show.record(show.plain(operator.import_mosip_chain(chain.read_bytes(), reason)), as_json=as_json)


@app.command()
def upload(
    domain: Annotated[
        str, typer.Option("--domain", help="device: the provider's own; ftm: an FTM maker's.")
    ] = "device",
    file: Annotated[
        Path | None,
        typer.Option("--file", help="PEM up to a root; the device CA's own under the provider's root if left out."),
    ] = None,
    partner_id: Annotated[
        str,
        typer.Option("--partner-id", help="The FTM maker's id there, if not trust_provider_id of fleetward.toml."),
    ] = "",
    make: Annotated[
        str, typer.Option("--make", help="Of a chip of the maker's: the certificate is handed to it.")
    ] = "",
    model: Annotated[str, typer.Option("--model", help="Of that chip.")] = "",
    purpose: Annotated[str, typer.Option("--purpose", help="Of the devices it is in: Registration, Auth.")] = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    for_devices: Annotated[
        bool, typer.Option("--for-devices", help="Have an FTM maker's authorities trusted for devices too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask nothing; say what MOSIP would refuse.")] = False,
    as_json: Json = False,
) -> None:
    """Hand MOSIP a certificate and all above it, the root first; show it from then on what it signed in return."""
    with acting(folder, as_json=as_json, actor=actor) as operator, translated():
        from dataclasses import replace
        from datetime import UTC, datetime

        from fleetward_schemas.identity import Purpose
        from fleetward_server.mosip import uploading
        from fleetward_server.mosip.onboarding import Domain

        word, config, now = one_of("--domain", domain.upper(), Domain), operator.config, datetime.now(UTC)
        of, pem = one_of("--purpose", purpose, Purpose), None if file is None else file.read_bytes()
        chip = (make, model, Purpose(of or Purpose.REGISTRATION)) if make or model or of else None
        if word == Domain.DEVICE:
            if chip is not None or for_devices:
                said = "--make, --model, --purpose, --for-devices are an FTM maker's: --domain ftm"
                raise OperatorProblem(Kind.INVALID, said)
            hand = uploading.of_provider(config, pem)
        elif pem is None:
            raise OperatorProblem(Kind.INVALID, "--file is missing: expected the FTM maker's certificate, PEM")
        else:
            hand = replace(uploading.of_maker(config, pem, partner_id, chip), for_devices=for_devices)
        steps = uploading.foreseen(hand, now) if dry_run else _uploaded(operator, hand, reason, now)
        show.rows(uploading.COLUMNS, map(show.plain, steps), as_json=as_json)
        refused = [f"{one.subject}: {one.code}: {one.detail}" for one in steps if one.state == "to-upload" and one.code]
        if refused:
            raise OperatorProblem(Kind.UNVERIFIED, f"MOSIP would refuse {'; '.join(refused)}")


def _uploaded(operator: "MassOperator", hand: "Hand", reason: str, now: "datetime") -> "tuple[Step, ...]":
    from fleetward_server.mosip.run import opened_wire
    from fleetward_server.mosip.tokens import Tokens
    from fleetward_server.mosip.uploading import upload

    config = operator.config
    if not config.mosip.on:
        raise OperatorProblem(Kind.INVALID, f"{config.folder}: [mosip] names no MOSIP")
    with closing(opened_wire(config)) as wire:
        steps, signed = upload(Tokens(config.mosip, config.folder, wire), hand, now)
    operator.take_from_mosip(hand, signed, reason)
    return steps


@app.command()
def approvals(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Ask MOSIP whether it approved our models, and the versions that devices run with them; exit 7 if it did not."""
    with acting(folder, as_json=as_json) as operator, translated():
        from datetime import UTC, datetime

        from fleetward_server.mosip.approvals import COLUMNS, check, wanted
        from fleetward_server.mosip.run import opened_wire
        from fleetward_server.mosip.tokens import Tokens

        config, now = operator.config, datetime.now(UTC)
        if not config.mosip.on:
            raise OperatorProblem(Kind.INVALID, f"{folder}: [mosip] names no MOSIP")
        with operator.opened() as store:
            asked_for = wanted(store, config.mosip, now)
        with closing(opened_wire(config)) as wire:
            found = check(Tokens(config.mosip, config.folder, wire), asked_for, config.provider.id, now)
        show.rows(COLUMNS, map(show.plain, found), as_json=as_json)
        lacking = [f"{one.kind} {one.name}: {one.state}" for one in found if not one.good]
        if lacking:
            raise OperatorProblem(Kind.UNVERIFIED, f"not approved by MOSIP: {'; '.join(lacking)}")
