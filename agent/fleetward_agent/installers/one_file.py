"""One file, replaced by a rename; its predecessor is kept beside it as ``<name>.before``.

For what is one blob: a scanner's firmware that ``apply`` then brings into it. What is in the file says where an
interrupted step stood, so nothing else needs to be written down.
"""

import os
import shutil

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.installers.files import copy_durably, digest, move_durably, remove_durably
from fleetward_agent.installers.tool import Tool
from fleetward_agent.software import OneFile
from fleetward_agent.upgrade_effects import Needs
from fleetward_schemas.upgrade import Why

SPARE_BYTES = 1 << 20


class FileInstaller:
    """See the module."""

    def __init__(self, table: OneFile, place: Place) -> None:
        self._table = table
        self._path = place.folder / table.path
        self._next = self._path.with_name(f"{self._path.name}.next")
        self._before = self._path.with_name(f"{self._path.name}.before")
        self._tool = Tool(place.stop, table.within_s, {"FLEETWARD_FILE": str(self._path.absolute())})

    def install(self, package: Package) -> None:
        """Lay the new file beside the old one."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if shutil.disk_usage(self._path.parent).free < 2 * package.release.length + SPARE_BYTES:
            raise Broken(f"{self._path.parent}: no room for two versions", Why.STORAGE)
        if digest(self._next) != package.release.hashes.sha256:
            copy_durably(package.path, self._next, int(self._table.mode, 8))

    def activate(self, package: Package) -> Needs:
        """Keep the old file, put the new one in its place, then have ``apply`` use it."""
        if self._next.exists():
            if digest(self._next) != package.release.hashes.sha256:
                raise Broken(f"{self._next}: is not what was installed")
            self._keep()
            move_durably(self._next, self._path)
        if digest(self._path) != package.release.hashes.sha256:
            raise Broken(f"{self._path}: is not what was installed")
        self._apply()
        return Needs(self._table.restart)

    def check(self, package: Package) -> None:
        """See that the file is in its place, and ask ``check``."""
        if digest(self._path) != package.release.hashes.sha256:
            raise Broken(f"{self._path}: is not what was installed")
        if self._table.check:
            self._tool.run(self._table.check, self._path.parent)

    def settle(self, package: Package) -> None:
        """Keep the predecessor until the next one."""

    def roll_back(self, package: Package) -> Needs:
        """Put the predecessor back, and have ``apply`` use it: perhaps it has used the new one, in part."""
        ran = digest(self._path) == package.release.hashes.sha256 and not self._next.exists()
        remove_durably(self._next)
        if ran and self._before.exists():
            move_durably(self._before, self._path)
        elif ran:
            remove_durably(self._path)
        if self._path.exists():
            self._apply()
        return Needs(self._table.restart) if ran else Needs.NOTHING

    def _keep(self) -> None:
        """Keep what is there now, or that there is nothing."""
        remove_durably(self._before)
        if self._path.exists():
            os.link(self._path, self._before)

    def _apply(self) -> None:
        if self._table.apply:
            self._tool.run(self._table.apply, self._path.parent)
