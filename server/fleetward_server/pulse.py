"""``pulse.json``: when the server last told the fleet the time, and by which key; for reports and probes.

Written with each beacon and not made durable: a pulse that is lost is followed by the next.
"""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import parse, show

log = logging.getLogger("fleetward.server")

FILE = "pulse.json"


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last beacon. signer: thumbprint of the signing certificate, which ends at ``signer_ends``."""

    beacon_at: datetime
    signer: str
    signer_ends: datetime


def write_pulse(folder: Path, pulse: Pulse) -> None:
    """Keep it; a disk that takes nothing costs the pulse alone."""
    document = {"beaconAt": show(pulse.beacon_at), "signer": pulse.signer, "signerEnds": show(pulse.signer_ends)}
    new = folder / f".{FILE}"
    try:
        new.write_text(json.dumps(document) + "\n")
        new.replace(folder / FILE)
    except OSError as error:
        log.debug("no pulse written", extra={"detail": str(error)})


def read_pulse(folder: Path) -> Pulse | None:
    """Return the last beacon; None when there is none to be read."""
    try:
        said = json.loads((folder / FILE).read_bytes())
        return Pulse(parse(said["beaconAt"]), str(said["signer"]), parse(said["signerEnds"]))
    except (OSError, ValueError, KeyError, TypeError, Refused):
        return None
