"""The real bus: udev through pyudev. Imported only where a driver table stands: a plain device does not pay for it.

Only the kernel's and udev's descriptions are read; no device is opened and nothing is written to one. Source: C4, C9.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyudev

from fleetward_agent.drivers import USB, USB_DEVICE, Driver
from fleetward_agent.plug import Plugged
from fleetward_agent.reading import ConfigProblem

_UDEV: Any = pyudev  # It has no types of its own.
MOST_AT_ONCE = 1000
HUB = b"09"
_KEPT = ("DEVNAME", "DEVPATH", "DEVTYPE", "SUBSYSTEM", "BUSNUM", "DEVNUM")
_FROM_SYSFS = {"ID_VENDOR_ID": "idVendor", "ID_MODEL_ID": "idProduct", "ID_SERIAL_SHORT": "serial"}
"""What udev's rules would have copied, where they did not run (a container)."""


class UdevBus:
    """What udev knows of the subsystems that the drivers name."""

    def __init__(self, drivers: Iterable[Driver]) -> None:
        """Listen from now on.

        Raises:
            ConfigProblem: this host has no libudev. OSError: the system gives no netlink socket.
        """
        drivers = tuple(drivers)
        self._subsystems = sorted({driver.subsystem for driver in drivers})
        self._kept = {*_KEPT, *(name for driver in drivers for name in driver.named_properties)}
        try:
            self._context = _UDEV.Context()
        except ImportError:
            raise ConfigProblem("drivers need libudev; run: apt-get install libudev1") from None
        self._monitor = _UDEV.Monitor.from_netlink(self._context)
        for subsystem in self._subsystems:
            self._monitor.filter_by(subsystem, USB_DEVICE if subsystem == USB else None)
        self._monitor.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when something happened."""
        return int(self._monitor.fileno())

    def drain(self) -> int:
        """Take the events that wait, a thousand at most, and return how many."""
        for count in range(MOST_AT_ONCE):
            try:
                if self._monitor.poll(0) is None:
                    return count
            except OSError:
                # The system ran out of room for events (ENOBUFS): that some were lost is news enough for a look.
                return count + 1
        return MOST_AT_ONCE

    def scan(self) -> frozenset[Plugged]:
        """Return what is there now, hubs left out."""
        return frozenset(self._found())

    def _found(self) -> Iterator[Plugged]:
        for subsystem in self._subsystems:
            wanted = {"DEVTYPE": USB_DEVICE} if subsystem == USB else {}
            for device in self._context.list_devices(subsystem=subsystem, **wanted):
                if device.attributes.get("bDeviceClass") != HUB:
                    yield self._plugged(device)

    def _plugged(self, device: Any) -> Plugged:
        found = {name: str(value) for name, value in device.properties.items() if self._keeps(name)}
        for name, attribute in _FROM_SYSFS.items():
            raw = device.attributes.get(attribute)
            if name not in found and raw is not None:
                found[name] = raw.decode("ascii", "replace").strip()
        return Plugged(str(device.sys_path), tuple(sorted(found.items())))

    def _keeps(self, name: str) -> bool:
        """What changes without anything being plugged (times of udev's own, tags) is no part of a plug."""
        return name.startswith("ID_") or name in self._kept
