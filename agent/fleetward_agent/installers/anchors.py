"""MOSIP's anchors, ``mosip-anchors.pem``, as a target: who signs releases offline may replace them, no server can.

Read as the agent will read them before they count; the agent takes them up when it starts anew.
"""

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.installers.one_file import FileInstaller
from fleetward_agent.software import OneFile
from fleetward_agent.upgrade_effects import Needs
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Refused

MOST_BYTES = 1 << 20


class AnchorsInstaller:
    """See the module."""

    def __init__(self, place: Place) -> None:
        table = OneFile(path=str(place.anchors.absolute()), restart=Needs.RESTART)
        self._file = FileInstaller(table, place)

    def install(self, package: Package) -> None:
        """Lay them beside those that count, if they are certificates."""
        if package.release.length > MOST_BYTES:
            raise Broken(f"{package.release.length} bytes: anchors have at most {MOST_BYTES}")
        try:
            MosipAnchors.of_pem(package.path.read_bytes())
        except Refused as refusal:
            raise Broken(f"no anchors: {refusal.detail}") from None
        self._file.install(package)

    def activate(self, package: Package) -> Needs:
        """Put them in place."""
        return self._file.activate(package)

    def check(self, package: Package) -> None:
        """See that they are in place: the agent has read them at its start, or would not run."""
        self._file.check(package)

    def settle(self, package: Package) -> None:
        """Keep those before until the next ones."""

    def roll_back(self, package: Package) -> Needs:
        """Put those before back."""
        return self._file.roll_back(package)
