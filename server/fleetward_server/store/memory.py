"""Rows that outlive a transaction: devices and windows as last committed, good while nobody else wrote the file.

A fleet speaks in turns of half a minute, so that the same rows come up again and again; reading them anew costs more
than all the rest of a message. Only committed values stand here, so that a rollback leaves nothing behind.
Source: https://www.sqlite.org/pragma.html#pragma_data_version.
"""

from sqlalchemy import Connection

from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Device

MOST_ROWS = 50_000


class Memory:
    """Committed devices and windows of one store."""

    def __init__(self) -> None:
        """Start empty."""
        self.devices: dict[DeviceId, Device | None] = {}
        self.windows: dict[tuple[str, str], ReplayWindow] = {}
        self._version: int | None = None

    def renew(self, connection: Connection) -> None:
        """Begin a transaction: forget all when another connection wrote since the last one, or when it grew too big."""
        version = connection.exec_driver_sql("PRAGMA data_version").scalar()
        if version != self._version or len(self.devices) > MOST_ROWS or len(self.windows) > MOST_ROWS:
            self.devices.clear()
            self.windows.clear()
        self._version = version

    def keep(self, devices: dict[DeviceId, Device], windows: dict[tuple[str, str], ReplayWindow]) -> None:
        """End a transaction: take over what was committed."""
        self.devices.update(devices)
        self.windows.update(windows)
