"""What installs firmware into a simulated scanner: its version changes, and what a package says goes wrong does so.

A package is any bytes. Its first line, if it is a version, is the scanner's from then on (else ``r<counter>``). These
words in it plan a failure: ``FAIL-INSTALL``, ``FAIL-ACTIVATE``, ``FAIL-HEALTH``, ``FAIL-ROLLBACK``, ``FAIL-ONCE`` (ill
at the first attempt), ``NOT-READY`` (the scanner does not answer while it runs), and ``HANG``, which installs until
told to stop.
"""

import json
import re
from pathlib import Path
from typing import Any

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker.durable import write_durably
from fleetward_sandbox.scanner import FIRMWARE, SimulatedScanner
from fleetward_schemas.upgrade import Why

NAME = "firmware"
HANG_S = 3000.0
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")


class SimulatedInstaller:
    """Firmware of one simulated scanner; what runs is kept in one small file, so it outlives the process."""

    def __init__(self, place: Place, scanner: SimulatedScanner) -> None:
        self._place = place
        self._scanner = scanner
        place.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = place.work / "scanner.json"
        self._show()

    def install(self, package: Package) -> None:
        """Look at the package, and keep its words."""
        raw = package.path.read_bytes()
        if b"HANG" in raw:
            self._place.stop.wait(HANG_S)
            raise Broken("it hung", Why.INTERRUPTED)
        if b"FAIL-INSTALL" in raw:
            raise Broken("as the package says")
        words = sorted(word for word in WORDS if word.encode() in raw)
        self._write(next={"counter": package.release.counter, "version": _version(raw, package), "words": words})

    def activate(self, package: Package) -> Needs:
        """Have the scanner run it."""
        held = self._read()
        if held["now"].get("counter") == package.release.counter:
            return Needs.NOTHING
        given = held["next"]
        if given.get("counter") != package.release.counter:
            raise Broken("it was not installed")
        if "FAIL-ACTIVATE" in given["words"]:
            raise Broken("as the package says")
        self._write(now=given, before=held["now"])
        self._show()
        return Needs.NOTHING

    def check(self, package: Package) -> None:
        """See that it runs; it is as well as its package says."""
        held = self._read()
        if held["now"].get("counter") != package.release.counter:
            raise Broken("another version runs")
        words = held["now"]["words"]
        if "FAIL-HEALTH" in words or ("FAIL-ONCE" in words and held["failed"] != package.release.counter):
            raise Broken("as the package says")

    def settle(self, package: Package) -> None:
        """Keep it."""

    def roll_back(self, package: Package) -> Needs:
        """Have the scanner run the one before."""
        held = self._read()
        if held["now"].get("counter") == package.release.counter:
            if "FAIL-ROLLBACK" in held["now"]["words"]:
                raise Broken("as the package says")
            self._write(now=held["before"], failed=package.release.counter)
            self._show()
        return Needs.NOTHING

    def _show(self) -> None:
        now = self._read()["now"]
        self._scanner.firmware = now.get("version", FIRMWARE)
        self._scanner.answers = "NOT-READY" not in now.get("words", ())

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"now": {}, "before": {}, "next": {}, "failed": 0}
        return empty | (json.loads(self._file.read_text()) if self._file.exists() else {})

    def _write(self, **changes: object) -> None:
        write_durably(self._file, json.dumps(self._read() | changes).encode())


WORDS = ("FAIL-ACTIVATE", "FAIL-HEALTH", "FAIL-ROLLBACK", "FAIL-ONCE", "NOT-READY")


def _version(raw: bytes, package: Package) -> str:
    first = raw[:80].split(b"\n", 1)[0].decode("ascii", "replace").strip()
    return first if _VERSION.fullmatch(first) else f"r{package.release.counter}"


def firmware_in(work: Path) -> str:
    """Return the version that a simulated scanner ran last. work: its installer's folder."""
    path = work / "scanner.json"
    return str(json.loads(path.read_text())["now"].get("version", FIRMWARE)) if path.exists() else FIRMWARE
