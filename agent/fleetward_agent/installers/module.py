"""Any update module of Mender's, protocol version 3, unchanged: a program that is told one state at a time.

``install``: the file API's folder, SupportsRollback. ``activate``: ArtifactInstall, NeedsArtifactReboot,
ArtifactReboot. ``check``: ArtifactVerifyReboot. ``settle``: ArtifactCommit, Cleanup. ``roll_back``: ArtifactRollback,
ArtifactRollbackReboot, ArtifactFailure, Cleanup. Each state is written down before and after it, so that one a crash
cut off is not told twice but failed. Not told: Download; the bytes lie in ``files``, as for a module without streams.
Source: Mender's update-modules-v3-file-api.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.installers.files import remove_durably, remove_tree
from fleetward_agent.installers.tool import Tool
from fleetward_agent.software import Module
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker.durable import sync_folder, write_durably
from fleetward_schemas.upgrade import Why

FORMAT = "3"
YES, AUTOMATIC = "Yes", "Automatic"
BEGUN, DONE = "begun", "done"


class ModuleInstaller:
    """See the module."""

    def __init__(self, table: Module, place: Place) -> None:
        self._table = table
        self._place = place
        self._api = (place.work / "payload").absolute()
        self._journal = place.work / "states.json"
        self._tool = Tool(place.stop, table.within_s)

    def install(self, package: Package) -> None:
        """Lay out the file API, and refuse a module that could not go back."""
        remove_durably(self._journal)
        self._lay_out(package)
        goes_back = self._ask("SupportsRollback") == YES
        if not goes_back and not self._table.one_way:
            raise Broken(f"{self._table.program}: supports no rollback; one_way = true would allow it")
        if self._ask("NeedsArtifactReboot") == AUTOMATIC and not self._place.may_reboot:
            raise Broken("it needs a reboot: [upgrade] reboot names no program", Why.NO_INSTALLER)
        self._write({"goes back": YES if goes_back else ""})

    def activate(self, package: Package) -> Needs:  # noqa: ARG002 - the module was told before
        """Have the module install, and reboot if it is one that does it itself."""
        states = self._read()
        if not states:
            raise Broken("nothing was installed")
        if states.get("ArtifactInstall") != DONE:
            self._tell("ArtifactInstall")
            self._write(self._read() | {"reboot": self._ask("NeedsArtifactReboot")})
        match self._read().get("reboot"):
            case "Automatic":
                return Needs.REBOOT
            case "Yes" if "ArtifactReboot" not in states:
                # It may end this very process; then it has been told.
                self._tell("ArtifactReboot")
        return Needs.NOTHING

    def check(self, package: Package) -> None:  # noqa: ARG002 - the module was told before
        """After a reboot, ask the module whether it is the right one."""
        states = self._read()
        if states.get("ArtifactInstall") != DONE:
            raise Broken("the module has not installed it")
        if states.get("reboot") in {YES, AUTOMATIC} and states.get("ArtifactVerifyReboot") != DONE:
            self._write({**states, "ArtifactVerifyReboot": ""})
            self._tell("ArtifactVerifyReboot")

    def settle(self, package: Package) -> None:
        """Have the module make it permanent, then clean up."""
        states = self._read()
        if states.get("ArtifactInstall") != DONE:
            return
        if states.get("ArtifactCommit") != DONE:
            self._write({**states, "ArtifactCommit": ""})
            self._tell("ArtifactCommit")
        write_durably(self._place.work / "artifact_name", _artifact(package).encode())
        self._clean_up()

    def roll_back(self, package: Package) -> Needs:  # noqa: ARG002 - the module was told before
        """Have the module go back, also from what it has begun alone."""
        states = self._read()
        if "ArtifactInstall" not in states:
            self._clean_up()
            return Needs.NOTHING
        rebooted = "ArtifactReboot" in states or "ArtifactVerifyReboot" in states
        if states.get("goes back") == YES and states.get("ArtifactRollback") != DONE:
            self._write({**states, "ArtifactRollback": ""})
            self._tell("ArtifactRollback")
        if rebooted and states.get("reboot") == YES and "ArtifactRollbackReboot" not in states:
            self._tell("ArtifactRollbackReboot")
        with suppress(Broken):
            self._run("ArtifactFailure")
        self._clean_up()
        if states.get("goes back") != YES:
            raise Broken("the module cannot go back", Why.ROLLBACK)
        return Needs.REBOOT if rebooted and states.get("reboot") == AUTOMATIC else Needs.NOTHING

    def _tell(self, state: str) -> None:
        """Have the module do a state, once. An empty word in the journal: again, for it may be repeated."""
        if self._read().get(state):
            raise Broken(f"{state} was interrupted", Why.INTERRUPTED)
        self._write(self._read() | {state: BEGUN})
        self._run(state)
        self._write(self._read() | {state: DONE})

    def _ask(self, question: str) -> str:
        return self._run(question).strip()

    def _run(self, state: str) -> str:
        try:
            return self._tool.run([self._table.program, state, str(self._api)], self._api)
        except Broken as broken:
            raise Broken(f"{state}: {broken}", broken.why) from None

    def _lay_out(self, package: Package) -> None:
        remove_tree(self._api)
        for folder in ("header", "files", "tmp"):
            (self._api / folder).mkdir(mode=0o700, parents=True)
        name = Path(package.release.target).name
        os.link(package.path, self._api / "files" / name)
        kind = self._table.device_type or self._place.model
        held = self._place.work / "artifact_name"
        info = {
            "payloads": [{"type": Path(self._table.program).name}],
            "artifact_provides": {"artifact_name": _artifact(package)},
            "artifact_depends": {"device_type": [kind]},
        }
        told = {"name": package.release.name, "counter": package.release.counter, "target": package.release.target}
        texts = {
            "version": FORMAT,
            "artifact_name": held.read_text() if held.exists() else "",
            "device_type": kind,
            "header/header-info": json.dumps(info),
            "header/files": json.dumps({"files": [name]}),
            "header/type-info": json.dumps({"type": Path(self._table.program).name}),
            "header/meta-data": json.dumps(told),
        }
        for file, text in texts.items():
            (self._api / file).write_text(text)
        sync_folder(self._api)

    def _clean_up(self) -> None:
        """Have the module clean up, whatever comes of it; then nothing is left of this upgrade."""
        if self._api.is_dir():
            with suppress(Broken):
                self._run("Cleanup")
        remove_durably(self._journal)
        remove_tree(self._api)

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._journal.read_text()) if self._journal.exists() else {}
        return found

    def _write(self, states: Mapping[str, Any]) -> None:
        write_durably(self._journal, json.dumps(states).encode())


def _artifact(package: Package) -> str:
    return f"{package.release.name}-{package.release.counter}"
