"""``fleetward hsm``: what the tokens and keys are like, a ceremony that makes them, and its protocol looked through."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_schemas.strict import b64_der
from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Actor, Dir, Json
from fleetward_server.cli.telling import acting, complain, read_file, telling, translated, whoami
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.ceremony import Ceremony
    from fleetward_server.ceremony_protocol import Report

app = typer.Typer(help="Tokens, keys, and the ceremonies that make them.", no_args_is_help=True)
CEREMONY_HELP = """Make keys in a token and certificates over them, as one reviewed YAML file says, without a question.

Everything that is made is checked against the file, and sworn to by every key in OUT/protocol.json; beside it are the
certificates and the file itself. Whatever fails on the way, the keys made until then are destroyed. Nothing in a token
is replaced. Review the file with sha256sum in hand; --dry-run looks at file and token and makes nothing.
"""


@app.command()
def status(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Look at every token and key of the provider, as they describe themselves; exit 5 if one that is needed fails."""
    with acting(folder, as_json=as_json) as operator, translated():
        from fleetward_server.doctor import Health
        from fleetward_server.hsm import look

        found = look(operator.config)
        columns = ("part", "health", "detail")
        show.rows(columns, map(show.plain, found), as_json=as_json)
        if any(one.health is Health.FAILS for one in found):
            raise typer.Exit(ExitCode.CONFLICT)


@app.command(help=CEREMONY_HELP)
def ceremony(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The reviewed YAML file.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for certificates and protocol.")] = None,
    actor: Actor = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at file and token; make nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Hold a ceremony; see CEREMONY_HELP."""
    with telling(as_json=as_json), translated():
        from fleetward_server import ceremony as made

        if out is None and not dry_run:
            raise OperatorProblem(Kind.INVALID, "--out: missing; a new folder for certificates and protocol")
        prepared = made.prepare(plan)
        if dry_run or out is None:
            show.record(_planned(prepared), as_json=as_json)
            return
        report = made.perform(
            prepared, out, f"operator:{actor or whoami()}", now=lambda: datetime.now(UTC), say=show.note
        )
        show.record({"folder": str(out), **_reported(report)}, as_json=as_json)


@app.command("verify-protocol")
def verify_protocol(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A protocol.json.")],
    plan: Annotated[Path | None, typer.Option("--plan", help="The file that was reviewed: was it this one?")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check every signature, attribute and certificate of a ceremony's protocol; exit 7 if it does not hold."""
    with telling(as_json=as_json), translated():
        from fleetward_server.ceremony_protocol import Unproven, open_protocol

        try:
            report = open_protocol(read_file(file))
            if plan is not None and read_file(plan) != report.plan.encode():
                raise Unproven(f"{plan}: not the plan that was carried out")
        except Unproven as flaw:
            complain("unverified", f"{file}: {flaw}", as_json=as_json)
            raise typer.Exit(ExitCode.UNVERIFIED) from None
        show.record(_reported(report), as_json=as_json)


def _planned(prepared: "Ceremony") -> dict[str, object]:
    plan = prepared.plan
    return {
        "ceremony": plan.ceremony,
        "purpose": plan.purpose,
        "witnesses": plan.witnesses,
        "plan_sha256": sha256(prepared.text.encode()).hexdigest(),
        "token": prepared.token_says,
        "keys": {
            name: f"{wish.alg} {wish.bits if wish.alg == 'RS256' else ''}".strip() for name, wish in plan.keys.items()
        },
        "certificates": {name: f"{wish.profile} by {wish.issuer}" for name, wish in plan.certificates.items()},
        "made": "nothing: this was a dry run",
    }


def _reported(report: "Report") -> dict[str, object]:
    """Return what people compare: fingerprints as ``sha256sum`` and ``openssl x509 -fingerprint -sha256`` have them."""
    return {
        "ceremony": report.ceremony,
        "actor": report.actor,
        "began": report.began,
        "ended": report.ended,
        "plan_sha256": report.plan_sha256,
        "token": report.token,
        "keys": {one.name: f"{one.alg} {sha256(b64_der(one.spki)).hexdigest()}" for one in report.keys},
        "certificates": {one.name: sha256(b64_der(one.der)).hexdigest() for one in report.certificates},
        "signatures": len(report.keys),
    }
