"""The simulated fleet: real agents in one process, each with its own TLS connection, keys, state folder and outbox.

Only scanner and key store come from the sandbox; everything else is what runs in the field.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fleetward_agent.assembly import assemble
from fleetward_agent.config import Config, from_folder
from fleetward_agent.device import Device
from fleetward_agent.hands import Hands, Later
from fleetward_agent.installers import FOLDER, Installer, Place
from fleetward_agent.run import Host, World
from fleetward_broker.link import SelectorLink
from fleetward_sandbox.installer import NAME, SimulatedInstaller, firmware_in
from fleetward_sandbox.scanner import SimulatedScanner
from fleetward_schemas.jws import Alg

CLOSE_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where devices dial instead of where their papers say: through a cable, or at a port that moved."""

    host: str
    port: int


class Fleet:
    """Many devices on one link."""

    def __init__(
        self, folders: list[Path], door: Door | None = None, *, seed: int = 1, device_alg: Alg | None = None
    ) -> None:
        """Assemble a device of each provisioned folder. seed: of what the scanners read.

        device_alg: other device keys than the folders ask for, where many must be made quickly.
        """
        self._chance = random.Random(seed)  # noqa: S311 - only the scanners' temperatures hang on it
        self._door, self._device_alg = door, device_alg
        self.link = SelectorLink(time.monotonic)
        self.devices = [self._assembled(folder) for folder in folders]
        self.host = Host(self.link, self.devices, World.real())

    def add(self, folder: Path) -> None:
        """Let one more device come up."""
        self.devices.append(self._assembled(folder))
        self.host.add(self.devices[-1])

    def _assembled(self, folder: Path) -> Device:
        return _assembled(folder, self._door, self._chance.random(), self._device_alg)

    def turn(self, timeout_s: float = 0.1) -> None:
        """Do what is due."""
        self.host.turn(timeout_s)

    def run(self, until: Callable[[], bool]) -> None:
        """Turn until told to stop, then leave politely."""
        while not until():
            self.turn()
        self.close()

    def close(self) -> None:
        """Let each say ``offline`` and disconnect, and close what it keeps."""
        self.host.shut()
        deadline = time.monotonic() + CLOSE_WITHIN_S
        while not self.host.closed and time.monotonic() < deadline:
            self.host.turn(0.05)
        self.link.shutdown()
        self.host.release()
        for device in self.devices:
            device.parts.outbox.close()


def _assembled(folder: Path, door: Door | None, phase: float, device_alg: Alg | None) -> Device:
    config = from_folder(folder)
    if door is not None:
        config = replace(config, server=replace(config.server, host=door.host, port=door.port))
    if device_alg is not None:
        config = replace(config, keys=replace(config.keys, device_alg=device_alg))
    scanner = SimulatedScanner(config.identity.digital_id, phase, time.monotonic)
    scanner.firmware = firmware_in(config.state_dir / FOLDER / NAME)
    simulated = {NAME: partial(SimulatedInstaller, scanner=scanner)}
    return assemble(config, scanner=scanner, hands=Later(lambda: _workshop(config, simulated)))


def _workshop(config: Config, simulated: Mapping[str, Callable[[Place], Installer]]) -> Hands:
    # Only here: a fleet that is never upgraded needs none of it.
    from fleetward_agent.equipment import workshop_of

    named = {one.name for one in config.software}
    return workshop_of(config, {name: maker for name, maker in simulated.items() if name not in named})


def provisioned(out: Path) -> list[Path]:
    """Return the device folders below ``out``, in order."""
    return sorted(path.parent for path in out.glob("*/identity.json"))
