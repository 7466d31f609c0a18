"""A part of what ``up`` runs, from its own side: what its command line tells it, its log, and the signals that end it.

``parts.py`` is the supervisor's side.
"""

import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from fleetward_broker.halt import SignalEvent
from fleetward_broker.logs import FORMATS, LEVELS, start_logging


def told(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Read the command line, ``--dir`` and the log's options beside the parser's own, and start the log."""
    parser.add_argument("--dir", type=Path, required=True, help="the provider's folder")
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument("--log-format", choices=FORMATS, default="text")
    wanted = parser.parse_args(argv)
    start_logging(wanted.log_level, wanted.log_format)
    return wanted


def told_to_end() -> SignalEvent:
    """Return what SIGTERM and SIGINT set from now on."""
    stopping = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
