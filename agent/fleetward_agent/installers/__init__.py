"""What installs: one kind of software each, behind one Protocol; a maker's own by an entry point of this name.

Every step may come again after a crash, at any point of it, and must then come to the same end. What a step cannot do
it says by ``Broken``. Source: protocol section 5 "Releases", points 7 and 8; FTM criteria (a failed update goes back).
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from fleetward_agent.upgrade_effects import Needs
from fleetward_schemas.upgrade import Release, Why

FOLDER = "upgrade"
"""Below the agent's state: what was fetched, and each installer's own folder."""
ENTRY_POINTS = "fleetward_agent.installers"
"""A maker's own installers: ``name = "module:make"``, ``make(options: dict, place: Place) -> Installer``."""


class Broken(Exception):  # noqa: N818 - says what is the matter
    """A step cannot be done. why: where the step's own reason is too coarse."""

    def __init__(self, detail: str, why: Why | None = None) -> None:
        super().__init__(detail)
        self.why = why


@dataclass(frozen=True, slots=True)
class Package:
    """A release and where its bytes are, already of the right length and hash; after ``settle`` they may be gone."""

    release: Release
    path: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where an installer works. folder: relative paths start here; work: its own, below the agent's state.

    stop: set when the process ends. model: ``make/model`` of the scanner. may_reboot: whether the host can be rebooted.
    anchors: the file of MOSIP's certificates.
    """

    folder: Path
    work: Path
    stop: Event
    model: str = ""
    may_reboot: bool = False
    anchors: Path = Path("mosip-anchors.pem")


class Installer(Protocol):
    """One kind of software."""

    def install(self, package: Package) -> None:
        """Lay the new version beside what runs, which is not touched."""
        ...

    def activate(self, package: Package) -> Needs:
        """Make the new version the one that runs; say what it takes beside. Again where it is active: the same."""
        ...

    def check(self, package: Package) -> None:
        """Look whether the new version runs and is well."""
        ...

    def settle(self, package: Package) -> None:
        """Keep the new version for good."""
        ...

    def roll_back(self, package: Package) -> Needs:
        """Make the version before run again; where the new one never ran, nothing."""
        ...
