"""``fleetward audit``: who did what, and whether anybody touched the book."""

from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, PAGE, Dir, Json, Limit, Since
from fleetward_server.cli.telling import acting, since

app = typer.Typer(help="Who did what, in a chain that shows tampering.", no_args_is_help=True)
COLUMNS = ("seq", "at", "actor", "action", "subject", "reason", "detail")


@app.command("list")
def list_entries(
    subject: Annotated[str, typer.Option("--subject", help="About this device, root, or other subject.")] = "",
    by: Annotated[str, typer.Option("--by", help="Done by operator:NAME, device:ID or server.")] = "",
    since_text: Since = "",
    after: Annotated[int, typer.Option("--after", min=0, help="Go on after this number.")] = 0,
    folder: Dir = HERE,
    limit: Limit = PAGE,
    *,
    as_json: Json = False,
) -> None:
    """List the audit, oldest first."""
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.store import AuditFilter

        wanted = AuditFilter(subject or None, by or None, since(since_text))
        found = operator.audit_links(wanted, after, limit)
        lines = ({"seq": link.seq, **show.plain(link.entry), "hash": link.hash} for link in found)
        show.rows(COLUMNS, lines, as_json=as_json)
        if len(found) == limit:
            show.note(f"there may be more: --after {found[-1].seq}")


@app.command()
def verify(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Go along the whole chain; note the head elsewhere, and a rewritten book shows too."""
    with acting(folder, as_json=as_json) as operator:
        verdict = operator.verify_audit()
        show.record({"rows": verdict.count, "broken": verdict.broken, "head": verdict.head}, as_json=as_json)
        if verdict.broken is not None:
            show.note(f"fleetward: row {verdict.broken} does not hold")
            raise typer.Exit(ExitCode.UNVERIFIED)
