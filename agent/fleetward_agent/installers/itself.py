"""This agent as software: a tree in a slot, tried by the launcher until it has proved itself.

``activate`` writes ``trial.json`` and asks for a new start; ``current`` still leads to the old version, and only
``settle`` moves it. So whatever becomes of the new one, and at whatever moment, whoever starts the launcher gets a
version that ran before: it counts the starts of a trial and after three goes back by itself (``launch``).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.installers.archive import Caps
from fleetward_agent.installers.files import remove_durably
from fleetward_agent.installers.slots import Pair
from fleetward_agent.launch import FALLEN, SLOT, SLOTS, TRIAL
from fleetward_agent.software import AgentItself
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker.durable import write_durably
from fleetward_schemas.upgrade import Why

STARTS_AT = Path("fleetward_agent") / "serve.py"
MOST_ENTRIES = 20_000


class AgentInstaller:
    """See the module. told: the environment, in which the launcher says what it has started."""

    def __init__(self, table: AgentItself, place: Place, told: Mapping[str, str] = os.environ) -> None:
        self._folder = place.folder / table.folder
        self._pair = Pair(self._folder, Caps(table.most_bytes, MOST_ENTRIES))
        self._told = told
        self._stop, self._soak_s = place.stop, table.soak_s

    def install(self, package: Package) -> None:
        """Unpack beside the version that runs."""
        if Path(self._told.get(SLOTS, "/")) != Path(os.path.realpath(self._folder)):
            raise Broken(f"{self._folder}: not what a launcher started this agent from", Why.NO_INSTALLER)
        if not self._pair.holder(package.release):
            self._pair.fill(package, self._pair.current)
        slot = self._pair.holder(package.release)
        if not (self._folder / slot / STARTS_AT).is_file():
            self._pair.empty(slot)
            raise Broken(f"no agent in it: {STARTS_AT} is not there")

    def activate(self, package: Package) -> Needs:
        """Have the launcher try it at the next start."""
        slot = self._pair.holder(package.release)
        if not slot:
            raise Broken("it lies in no slot")
        if slot == self._running:
            return Needs.NOTHING
        if self._names(FALLEN) == slot:
            raise Broken("it was tried, and did not stay")
        if self._names(TRIAL) != slot:
            write_durably(self._folder / TRIAL, json.dumps({"slot": slot, "starts": 0}).encode())
        return Needs.RESTART

    def check(self, package: Package) -> None:
        """See that this is the new version and has run for a while: if the launcher went back, it is not."""
        if self._pair.holder(package.release) != (self._running or "none"):
            raise Broken("the version before runs: the new one did not stay")
        if self._stop.wait(self._soak_s):
            raise Broken("stopped, for the agent ends", Why.INTERRUPTED)

    def settle(self, package: Package) -> None:
        """From now on it is the one that is started."""
        slot = self._pair.holder(package.release)
        if not slot or slot != self._running:
            return
        if self._pair.current != slot:
            self._pair.switch(slot)
        self._forget(slot)

    def roll_back(self, package: Package) -> Needs:
        """End the trial; the slot is emptied unless this process runs from it."""
        slot = self._pair.holder(package.release)
        if not slot or slot == self._pair.current:
            return Needs.NOTHING
        self._forget(slot)
        if slot == self._running:
            return Needs.RESTART
        self._pair.empty(slot)
        return Needs.NOTHING

    @property
    def _running(self) -> str:
        return self._told.get(SLOT, "")

    def _names(self, file: str) -> str:
        """Return the slot that a file of the launcher's speaks of."""
        try:
            found: Any = json.loads((self._folder / file).read_text())
        except (FileNotFoundError, ValueError):
            return ""
        return str(found.get("slot", "")) if isinstance(found, dict) else ""

    def _forget(self, slot: str) -> None:
        for file in (TRIAL, FALLEN):
            if self._names(file) == slot:
                remove_durably(self._folder / file)
