"""What a server at work does now and then, and how often."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Duty(StrEnum):
    """What comes round; a beacon as often as the configuration says."""

    BEACON = "beacon"
    CHORES = "chores"
    CLEAN = "clean"
    CUTS = "cuts"
    ENCRYPTION = "encryption"
    ENDS = "ends"
    KEYS = "keys"
    PLAN = "plan"
    ROOM = "room"
    SILENCE = "silence"


EVERY_S: Mapping[Duty, float] = MappingProxyType(
    {
        Duty.CHORES: 0.25,
        Duty.CLEAN: 60.0,
        Duty.CUTS: 1.0,
        Duty.ENCRYPTION: 5.0,
        Duty.ENDS: 3600.0,
        Duty.KEYS: 2.0,
        Duty.PLAN: 60.0,
        Duty.ROOM: 1.0,
        Duty.SILENCE: 10.0,
    }
)


class Timers:
    """When each duty is due next; at the start all are. Moments are CLOCK_MONOTONIC's, in seconds."""

    def __init__(self, beacon_s: float) -> None:
        """Begin. beacon_s: between two beacons."""
        self._every_s = {Duty.BEACON: beacon_s, **EVERY_S}
        self._due = dict.fromkeys(Duty, 0.0)

    def due(self, duty: Duty, monotonic: float) -> bool:
        """Say whether it is time; if so, the next time is planned."""
        if monotonic < self._due[duty]:
            return False
        self.plan(duty, monotonic + self._every_s[duty])
        return True

    def plan(self, duty: Duty, at: float) -> None:
        """Have a duty done at ``at`` rather than when its time would come."""
        self._due[duty] = at
