"""A USB bus made of files: scanners are plugged in and pulled out as the kernel and udev would tell it.

A thin layer over libumockdev (Debian package umockdev). The bus lives in a process of its own, since only one that has
the library preloaded can tell events; programs started with ``TestBus.environment`` see it.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

FULL_S = 0.005
BUS = "/devices/pci0000:00/0000:00:14.0/usb1"


@dataclass(frozen=True)
class Usb:
    """Something with a plug. number: what the bus calls it, another one each time it is plugged in."""

    serial: str
    port: str = "1-2"
    number: int = 7
    vendor: str = "1d6b"
    product: str = "0b10"

    @property
    def path(self) -> str:
        return f"{BUS}/{self.port}"

    def text(self) -> str:
        """Return it as umockdev describes devices."""
        node = f"bus/usb/001/{self.number:03d}"
        properties = {
            "DEVNAME": f"/dev/{node}",
            "DEVTYPE": "usb_device",
            "SUBSYSTEM": "usb",
            "ID_VENDOR_ID": self.vendor,
            "ID_MODEL_ID": self.product,
            "ID_MODEL": "FingerScan",
            "ID_SERIAL_SHORT": self.serial,
        }
        attributes = {"idVendor": self.vendor, "idProduct": self.product, "serial": self.serial, "busnum": "1"}
        lines = [f"P: {self.path}", f"N: {node}"]
        lines += [f"E: {name}={value}" for name, value in properties.items()]
        lines += [f"A: {name}={value}\\n" for name, value in attributes.items()]
        return "\n".join(lines) + "\n"


class TestBus:
    """The bus. It is empty at first and gone with its ``with``; every word is heard before the next is said."""

    __test__ = False

    def __init__(self) -> None:
        command = ["umockdev-wrapper", sys.executable, "-P", __file__]
        self._bed = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.root = self._heard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bed.communicate(timeout=30)

    @property
    def environment(self) -> dict[str, str]:
        """What a program under umockdev-wrapper needs to see this bus in place of the real one."""
        return os.environ | {"UMOCKDEV_DIR": self.root}

    def plug(self, *devices: Usb) -> None:
        """Plug in; an event tells of each."""
        self._say([["add", device.text()] for device in devices])

    def pull(self, *devices: Usb) -> None:
        """Pull out: the event first, since removing alone tells nothing."""
        for device in devices:
            self._say([["remove", f"/sys{device.path}"]])

    def stir(self, device: Usb, times: int) -> None:
        """Tell that something changed, though nothing did."""
        self._say([["change", f"/sys{device.path}"]] * times)

    def _say(self, words: list[list[str]]) -> None:
        assert self._bed.stdin is not None
        self._bed.stdin.write(json.dumps(words) + "\n")
        self._bed.stdin.flush()
        assert self._heard() == "done"

    def _heard(self) -> str:
        assert self._bed.stdout is not None
        return self._bed.stdout.readline().strip()


def tell(event: Callable[[], None]) -> bool:
    """Tell in a child, since the library ends the process whose listener has no room for more."""
    child = os.fork()
    if child == 0:
        event()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Be the bus: do what stdin says until it ends."""
    library = ctypes.CDLL("libumockdev.so.0")
    library.umockdev_testbed_new.restype = ctypes.c_void_p
    library.umockdev_testbed_get_root_dir.restype = ctypes.c_char_p
    bed = ctypes.c_void_p(library.umockdev_testbed_new())
    print(library.umockdev_testbed_get_root_dir(bed).decode(), flush=True)
    for line in sys.stdin:
        for word, what in json.loads(line):
            if word == "add":
                assert library.umockdev_testbed_add_from_string(bed, what.encode(), None)
                continue
            while not tell(partial(library.umockdev_testbed_uevent, bed, what.encode(), word.encode())):
                time.sleep(FULL_S)
            if word == "remove":
                library.umockdev_testbed_remove_device(bed, what.encode())
        print("done", flush=True)
    library.g_object_unref(bed)


if __name__ == "__main__":
    main()
