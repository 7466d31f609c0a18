"""The options that commands share, spelled once."""

from pathlib import Path
from typing import Annotated

import typer

HERE = Path("fleetward")
PAGE = 100

Dir = Annotated[Path, typer.Option("--dir", envvar="FLEETWARD_DIR", help="The provider's folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; errors as JSON on stderr.")]
Actor = Annotated[str, typer.Option("--actor", help="Who does it, for the audit.", show_default="the user at the host")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the audit; must be said.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many rows.")]
Since = Annotated[str, typer.Option("--since", help="2026-05-01T12:00:00Z, or how long ago: 90s, 15m, 2h, 7d.")]
Name = Annotated[str, typer.Argument(metavar="DEVICE", help="An id, at least 4 of its first characters, or a serial.")]
