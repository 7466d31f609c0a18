"""What is real around a device: the scanner its papers declare, and the host's own numbers.

A declared scanner is believed to be there; finding scanners on the bus is another room's work.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fleetward_agent import VERSION
from fleetward_agent.ports import Sighting
from fleetward_schemas.identity import DigitalId
from fleetward_schemas.inventory import DeviceStatus

MEMORY = Path("/proc/meminfo")
KIB = 1024


class DeclaredScanner:
    """The scanner of ``identity.json``."""

    def __init__(self, identity: DigitalId) -> None:
        self._identity = identity

    def present(self) -> tuple[DigitalId, ...]:
        """Return the one that is declared."""
        return (self._identity,)

    def read(self) -> Sighting:
        """Say that it is ready."""
        return Sighting(DeviceStatus.READY, service_version=VERSION)


class HostGauge:
    """Load, memory and disk of this host."""

    def __init__(self, folder: Path) -> None:
        """Measure the disk that holds ``folder``."""
        self._folder = folder

    def read(self) -> Mapping[str, float]:
        """Return what can be read; what cannot is left out."""
        found: dict[str, float] = {}
        try:
            found["hostLoad"] = os.getloadavg()[0]
            found["hostDiskFreeBytes"] = shutil.disk_usage(self._folder).free
            found["hostMemoryFreeBytes"] = _memory_free()
        except (OSError, ValueError):
            return found
        return found


def _memory_free() -> int:
    for line in MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    raise ValueError(f"{MEMORY} has no MemAvailable")
