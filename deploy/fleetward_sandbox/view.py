"""What the demo looks like: a live table on a terminal, plain lines anywhere else."""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetward_server.state import Device, Presence

MOST_ROWS = 30
LINES = 14
PICTURE_COLUMNS = 118
STATE_STYLE = {"registered": "green", "pending": "yellow", "approved": "cyan"}
PRESENCE_MARK = {Presence.ONLINE: ("●", "green"), Presence.OFFLINE: ("○", "red"), Presence.NEVER: ("·", "dim")}


class Numbers(Protocol):
    """What the footer shows of the counts."""

    devices: int
    registered: int
    reported: int
    commands_answered: int
    rotated: int
    upgraded: int
    rolled_back: int
    usurper_refused: dict[str, int]
    caught_up: int
    hostile_refused: dict[str, int]


class View:
    """Shows steps, devices and numbers."""

    def __init__(self, *, plain: bool) -> None:
        """plain: lines instead of a live picture."""
        self._console = Console(stderr=plain)
        self._live = None if plain else Live(console=self._console, refresh_per_second=4, transient=False)
        self._step = ""
        self._lines: list[str] = []
        self._body: RenderableType = Text("")
        self._began = datetime.now(UTC)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, what: str) -> None:
        """Say what happens now."""
        self._step = what
        self.say(what)

    def say(self, line: str) -> None:
        """Add a line to the story."""
        seconds = (datetime.now(UTC) - self._began).total_seconds()
        text = f"{seconds:6.1f} s  {line}"
        self._lines = [*self._lines, text][-LINES:]
        if self._live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._draw()

    def warn(self, line: str) -> None:
        """Say what must not be overlooked."""
        self.say(f"NOTE: {line}")

    def progress(self, done: int, whole: int) -> None:
        """Show how far a step is."""
        if self._live is not None:
            self._body = Group(ProgressBar(total=whole, completed=done, width=60), Text(f"{done} of {whole}"))
            self._draw()

    def devices(self, devices: Sequence[Device], numbers: Numbers, versions: Mapping[str, str]) -> None:
        """Show the fleet. versions: of firmware, by device."""
        if self._live is not None:
            self._body = Group(_table(devices, versions), _footer(numbers))
            self._draw()

    def picture(self, path: Path, devices: Sequence[Device], numbers: Numbers, versions: Mapping[str, str]) -> None:
        """Write what a terminal shows now as an SVG that needs nothing from elsewhere."""
        self._body = Group(_table(devices, versions), _footer(numbers))
        console = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(self._frame())
        form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        path.write_text(console.export_svg(title="make demo", code_format=form))

    def _frame(self) -> Panel:
        story = Text("\n".join(self._lines), style="dim")
        return Panel(Group(self._body, story), title=f"Fleetward · {self._step}", title_align="left")

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._frame())


def _table(devices: Sequence[Device], versions: Mapping[str, str]) -> Table:
    table = Table(expand=True, pad_edge=False, box=None)
    for name in ("device", "serial", "model", "level", "register", "presence", "firmware", "last seen"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for device in devices[:MOST_ROWS]:
        mark, style = PRESENCE_MARK[device.presence]
        seen = "" if device.seen_at is None else device.seen_at.strftime("%H:%M:%S")
        table.add_row(
            device.id[:12],
            device.identity.serialNo,
            device.identity.model,
            str(device.certification),
            Text(str(device.state), style=STATE_STYLE.get(str(device.state), "red")),
            Text(f"{mark} {device.presence}", style=style),
            versions.get(device.id, ""),
            seen,
        )
    return table


def _footer(numbers: Numbers) -> Text:
    return Text(
        f"\nregistered {numbers.registered}/{numbers.devices}   reported {numbers.reported}   "
        f"commands answered {numbers.commands_answered}   new keys {numbers.rotated}   caught up {numbers.caught_up}\n"
        f"upgraded {numbers.upgraded}   rolled back by itself {numbers.rolled_back}   "
        f"refused of a stolen server: {_told(numbers.usurper_refused)}\n"
        f"refused of the thief: {_told(numbers.hostile_refused)}",
        style="bold",
    )


def _told(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(refused.items())) or "none yet"
