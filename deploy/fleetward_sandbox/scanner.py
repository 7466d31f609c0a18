"""A simulated scanner: says who it is and how it is. It has nothing to capture with."""

import math
from collections.abc import Callable, Mapping

from fleetward_agent.ports import Sighting
from fleetward_schemas.identity import DigitalId
from fleetward_schemas.inventory import DeviceStatus

FIRMWARE = "2.4.1"
SERVICE = "1.0.0"
WARM_C = 31.0
SWING_C = 4.0
DAY_S = 86400.0


class SimulatedScanner:
    """A scanner whose temperature swings with the time of day, each a little apart.

    firmware, answers: what runs in it, and whether it answers; its installer changes both.
    """

    def __init__(self, identity: DigitalId, phase: float, monotonic: Callable[[], float]) -> None:
        """phase: 0..1, where in its swing this one is."""
        self.firmware = FIRMWARE
        self.answers = True
        self._identity = identity
        self._phase = phase
        self._monotonic = monotonic

    def present(self) -> tuple[DigitalId, ...]:
        """Return the one identity."""
        return (self._identity,)

    def read(self) -> Sighting:
        """Return a lawful state of health."""
        status = DeviceStatus.READY if self.answers else DeviceStatus.NOT_READY
        return Sighting(status, self._metrics(), self.firmware, SERVICE)

    def _metrics(self) -> Mapping[str, float]:
        turn = 2 * math.pi * (self._phase + self._monotonic() / DAY_S)
        return {"temperatureC": round(WARM_C + SWING_C * math.sin(turn), 2), "scannerReady": int(self.answers)}
