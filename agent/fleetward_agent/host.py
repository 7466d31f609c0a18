"""What is real around a device: its scanner, and the host's own numbers.

A scanner that papers alone declare is believed to be there; one that is plugged in was found by ``plugs``.
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


class PluggedScanner:
    """A scanner that was plugged in. Not ready while its driver's program fails."""

    def __init__(self, identity: DigitalId, firmware: str | None, *, ready: bool) -> None:
        self._identity = identity
        self._firmware = firmware
        self._ready = ready

    def confirm(self, firmware: str | None) -> None:
        """Be ready: the driver's program has answered."""
        self._firmware = firmware or self._firmware
        self._ready = True

    def present(self) -> tuple[DigitalId, ...]:
        """Return the one."""
        return (self._identity,)

    def read(self) -> Sighting:
        """Say whether it is ready."""
        status = DeviceStatus.READY if self._ready else DeviceStatus.NOT_READY
        return Sighting(status, firmware=self._firmware or "unknown", service_version=VERSION)


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
