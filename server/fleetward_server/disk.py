"""How much room the store's disk must have: below the mark nothing is read from the line, so nothing is acknowledged.

Devices keep their reports until a signed ``ack`` names them, so a pause costs time and no data. Reading goes on only
well above the mark, so that a disk at its edge does not make the line flap. Source: deploy/decisions/0001.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
BACK_AT = 1.25
"""Times the mark: from here on it is room again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The least room. low: whether it was too little when last looked at."""

    least_bytes: int
    low: bool = False

    def look(self, free_bytes: int) -> "Mark":
        """Return the mark after a look at the disk."""
        enough = self.least_bytes * (BACK_AT if self.low else 1)
        return Mark(self.least_bytes, low=free_bytes < enough)


class Room:
    """The mark of one folder's disk, looked at now and then."""

    def __init__(self, folder: Path, least_mb: int) -> None:
        """Watch the disk of ``folder`` for ``least_mb`` MiB."""
        self._folder = folder
        self._mark = Mark(least_mb * MIB)

    def lacking(self) -> str:
        """Look, and say what is wrong; nothing when there is room."""
        free = free_bytes(self._folder)
        self._mark = self._mark.look(free)
        least_mb = self._mark.least_bytes // MIB
        return f"{free // MIB} MiB free on the disk, [storage] min_free_mb = {least_mb}" if self._mark.low else ""


def free_bytes(folder: Path) -> int:
    """Return what an ordinary process may still write on the folder's filesystem."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
