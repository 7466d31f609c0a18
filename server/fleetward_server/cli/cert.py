"""``fleetward cert``: the certificates that count, when they end, and on what they stand."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS, plain_words
from fleetward_server.cli.options import HERE, PAGE, Dir, Json, Limit
from fleetward_server.cli.telling import acting, complain, duration, translated

app = typer.Typer(help="Certificates.", no_args_is_help=True)
COLUMNS = ("role", "name", "state", "not_before", "not_after", "subject", "thumbprint")
ENDING = ("role", "name", "state", "not_after", "left")
CHAIN = ("subject", "serial", "not_before", "not_after", "signed", "in_time")
MOST = 100_000


@app.command("list", epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def list_certificates(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[FILTER]...", help="Only those of these devices.")
    ] = None,
    folder: Dir = HERE,
    limit: Limit = PAGE,
    *,
    own: Annotated[bool, typer.Option("--own", help="Only the provider's own.")] = False,
    as_json: Json = False,
) -> None:
    """List certificates that count: the provider's own, then those of devices, the first to end first."""
    text = " ".join(plain_words(words))
    with acting(folder, as_json=as_json) as operator, translated():
        from fleetward_server.state import Use

        found = [] if text else list(operator.own_certificates())
        of_devices = () if own else operator.device_certificates(operator.selection(text), tuple(Use), limit=limit)
        show.rows(COLUMNS, map(show.plain, [*found, *of_devices]), as_json=as_json)
        if len(of_devices) == limit:
            show.note("there may be more: --limit, or a filter")


@app.command()
def expiring(
    folder: Dir = HERE,
    within: Annotated[str, typer.Option("--within", help="How long for the provider's own: 30d, 12h.")] = "30d",
    devices_within: Annotated[
        str, typer.Option("--devices-within", help="How long for devices', which live 30 days and are renewed before.")
    ] = "3d",
    *,
    as_json: Json = False,
) -> None:
    """List what ends soon; exit 5 if anything does, 0 if nothing: for cron.

    Of the provider's own, what has ended is listed too; of devices, only those whose last certificate is about to end:
    a device whose certificate has ended is away, and enrols again when it is back.
    """
    now = datetime.now(UTC)
    with acting(folder, as_json=as_json) as operator, translated():
        from fleetward_server.selection import After, Before, Field, Selection, Term
        from fleetward_server.state import Use

        last, until = now + duration("--within", within), now + duration("--devices-within", devices_within)
        ends = Field.CERT_EXPIRES
        wanted = Selection(terms=(Term(ends, (Before(until),)), Term(ends, (After(now),))))
        own = [one for one in operator.own_certificates() if one.not_after < last]
        found = [*own, *operator.device_certificates(wanted, (Use.DEVICE,), before=until, limit=MOST)]
        rows = [{**show.plain(one), "left": _left(one.not_after, now)} for one in found]
        show.rows(ENDING, rows, as_json=as_json)
        if rows:
            raise typer.Exit(ExitCode.CONFLICT)


@app.command()
def chain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from cert list: device-ca, broker, or a device.")],
    folder: Dir = HERE,
    *,
    pem: Annotated[bool, typer.Option("--pem", help="The certificates themselves, leaf first.")] = False,
    as_json: Json = False,
) -> None:
    """Show on what a certificate stands, up to the root, and whether that holds now; exit 7 if it does not."""
    with acting(folder, as_json=as_json) as operator, translated():
        told = operator.certificate_chain(name)
        if as_json:
            show.record(show.plain(told), as_json=True)
        elif pem:
            with show.stdout():
                print("".join(link.pem for link in told.links), end="")
        else:
            show.rows(CHAIN, map(show.plain, told.links), as_json=False)
        if told.flaw:
            complain("unverified", f"{name}: the chain does not hold: {told.flaw}", as_json=as_json)
            raise typer.Exit(ExitCode.UNVERIFIED)


def _left(end: datetime, now: datetime) -> str:
    """Say how long is left, in the unit that fits."""
    seconds = int((end - now).total_seconds())
    if seconds < 0:
        return "ended"
    return f"{seconds // 86400}d" if seconds >= 86400 else f"{seconds // 3600}h"
