"""``health.json``: whether the server takes messages now, if not, why, and what ends soon; for probes and people.

A file that is not there says not ready: it goes with the server, and when the disk cannot take a new one.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from fleetward_broker.durable import write_durably

log = logging.getLogger("fleetward.server")

FILE = "health.json"


def write_health(folder: Path, why: str, warnings: Sequence[str] = ()) -> None:
    """Say that the server is ready, or ``why`` it is not. warnings: what will need somebody, but not yet."""
    document = {"ready": not why, "why": why, "warnings": list(warnings)}
    try:
        write_durably(folder / FILE, json.dumps(document).encode() + b"\n")
    except OSError as error:
        log.warning("health cannot be written", extra={"detail": str(error)})
        forget_health(folder)


def read_health(folder: Path) -> str:
    """Return why the server is not ready; nothing when it is."""
    try:
        document = json.loads((folder / FILE).read_bytes())
        return "" if document["ready"] else str(document["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return "the server says nothing of itself; see server.log"


def forget_health(folder: Path) -> None:
    """Take the word back."""
    (folder / FILE).unlink(missing_ok=True)
