"""``fleetward time``: how sure of the time the server and its devices are."""

from typing import Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS, plain_words
from fleetward_server.cli.options import HERE, Dir, Json
from fleetward_server.cli.telling import acting

app = typer.Typer(help="How sure of the time the server and its devices are.", no_args_is_help=True)
COLUMNS = ("device_id", "width_ms", "offset_ms", "synced_at", "refused", "drift_ppm", "observed_at")


@app.callback()
def _group() -> None:
    """Keep the group, though it has one command yet."""


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def status(
    words: Annotated[list[str] | None, typer.Argument(metavar="[FILTER]...", help="Whose; see below.")] = None,
    folder: Dir = HERE,
    widest: Annotated[int, typer.Option("--widest", min=0, help="Show so many of the widest.")] = 10,
    *,
    as_json: Json = False,
) -> None:
    """Show what bounds our own clock's error, and the devices' intervals as of their last readings.

    offset_ms is our clock when a report came less the device's when it was sealed: its error, and the way here.
    """
    with acting(folder, as_json=as_json) as operator:
        from fleetward_server.clocks import drawn, histogram, quantiles

        wanted = operator.selection(" ".join(plain_words(words)))
        every, clocks = len(operator.device_ids(wanted)), operator.clocks(wanted)
        widths = [one.width_ms for one in clocks]
        bars = histogram(widths)
        document = {
            "server": operator.own_clock(),
            "devices": every,
            "untold": every - len(clocks),
            "width_ms": quantiles(widths),
            "offset_ms": quantiles([abs(one.offset_ms) for one in clocks]),
            "refused": sum(one.refused or 0 for one in clocks),
        }
        if as_json:
            rows = [show.plain(one) for one in clocks[:widest]]
            show.record({**document, "histogram": dict(bars), "widest": rows}, as_json=True)
            return
        show.record(document, as_json=False)
        for line in ("", "width of the interval", *(drawn(bars) if clocks else ["no device has told yet"])):
            print(line)
        if clocks and widest:
            print("\nwidest")
            show.rows(COLUMNS, [show.plain(one) for one in clocks[:widest]], as_json=False)
