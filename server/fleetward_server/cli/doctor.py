"""``fleetward doctor``: what would keep this provider from serving, before it does."""

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import telling


def doctor(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Examine folder, configuration, store, audit, keys, certificates, clock and disk; exit 5 if anything fails."""
    with telling(as_json=as_json):
        from fleetward_server.doctor import Health, examine

        found = examine(folder)
        show.rows(("part", "health", "detail"), map(show.plain, found), as_json=as_json)
        if any(finding.health is Health.FAILS for finding in found):
            raise typer.Exit(ExitCode.CONFLICT)
