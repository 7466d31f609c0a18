"""A/B slots: a tar archive unpacked into the folder that does not run, and one link switched by a rename.

``FOLDER/a`` and ``FOLDER/b`` hold versions, ``FOLDER/current`` leads to the one that runs, ``a.release`` and
``b.release`` say what is whole in them: written last, removed first, and outside, where no archive reaches.
"""

import json
from pathlib import Path

from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.installers.archive import Caps, unpack
from fleetward_agent.installers.files import link_durably, remove_durably, remove_tree
from fleetward_agent.installers.tool import Tool
from fleetward_agent.software import Slots
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker.durable import sync_folder, write_durably
from fleetward_schemas.upgrade import Release

OTHER = {"a": "b", "b": "a"}
CURRENT = "current"


class Pair:
    """Two slots and the link between them; it knows which release is whole where, and switches."""

    def __init__(self, folder: Path, caps: Caps) -> None:
        self.folder = folder
        self._caps = caps

    @property
    def current(self) -> str:
        """The slot that runs: ``a``, ``b``, or nothing.

        Raises:
            Broken: ``current`` is there and is no link to a slot.
        """
        link = self.folder / CURRENT
        if not link.is_symlink():
            if link.exists():
                raise Broken(f"{link}: is no link to a slot")
            return ""
        name = str(link.readlink())
        if name not in OTHER:
            raise Broken(f"{link}: leads to {name!r}: expected a or b")
        return name

    def holder(self, release: Release) -> str:
        """Return the slot in which a release is whole, the one that runs first; nothing where it is in none."""
        first = self.current or "a"
        return next((slot for slot in (first, OTHER[first]) if self._whole(slot) == mark(release)), "")

    def fill(self, package: Package, not_here: str) -> None:
        """Unpack a package into the slot that is not ``not_here``. Raises as ``unpack``."""
        slot = OTHER[not_here] if not_here else "a"
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.empty(slot)
        unpack(package.path, self.folder / slot, self._caps)
        sync_folder(self.folder)
        write_durably(self._mark(slot), mark(package.release).encode())

    def empty(self, slot: str) -> None:
        """Have nothing in a slot: it is not whole before it is gone."""
        remove_durably(self._mark(slot))
        if (self.folder / slot).exists() or (self.folder / slot).is_symlink():
            remove_tree(self.folder / slot)

    def switch(self, slot: str) -> None:
        """Have ``current`` lead to a slot; to nothing where ``slot`` is empty."""
        if slot:
            link_durably(self.folder / CURRENT, slot)
        else:
            remove_durably(self.folder / CURRENT)

    def _mark(self, slot: str) -> Path:
        return self.folder / f"{slot}.release"

    def _whole(self, slot: str) -> str:
        path = self._mark(slot)
        return path.read_text() if path.exists() else ""

    def before(self) -> str:
        """Return the slot to go back to from the one that runs; nothing where there was none before."""
        other = OTHER.get(self.current, "")
        return other if other and (self.folder / other).is_dir() else ""


def mark(release: Release) -> str:
    """Return what says which release is in a slot."""
    return json.dumps({"counter": release.counter, "sha256": release.hashes.sha256}, sort_keys=True)


class SlotsInstaller:
    """See the module."""

    def __init__(self, table: Slots, place: Place) -> None:
        self._table = table
        self._pair = Pair(place.folder / table.folder, Caps(table.most_bytes, table.most_entries))
        self._stop, self._within_s = place.stop, table.within_s

    def install(self, package: Package) -> None:
        """Unpack beside what runs."""
        if not self._pair.holder(package.release):
            self._pair.fill(package, self._pair.current)

    def activate(self, package: Package) -> Needs:
        """Switch the link, then have ``apply`` make it run."""
        slot = self._pair.holder(package.release)
        if not slot:
            raise Broken("it lies in no slot")
        if slot != self._pair.current:
            self._pair.switch(slot)
        self._run(self._table.apply)
        return Needs(self._table.restart)

    def check(self, package: Package) -> None:
        """See that the link leads there, and ask ``check``."""
        if self._pair.holder(package.release) != (self._pair.current or "none"):
            raise Broken("another version runs")
        self._run(self._table.check)

    def settle(self, package: Package) -> None:
        """Keep both: the one before is what the next one replaces."""

    def roll_back(self, package: Package) -> Needs:
        """Switch back, and empty the slot: what failed is unpacked anew if it comes again."""
        slot = self._pair.holder(package.release)
        if not slot:
            return Needs.NOTHING
        ran = slot == self._pair.current
        if ran:
            self._pair.switch(self._pair.before())
        if self._pair.current:
            # Also where the link was switched back before a crash: whether ``apply`` was done then, nobody knows.
            self._run(self._table.apply)
        self._pair.empty(slot)
        return Needs(self._table.restart) if ran else Needs.NOTHING

    def _run(self, words: list[str]) -> None:
        if words:
            slot = self._pair.folder / (self._pair.current or ".")
            told = {"FLEETWARD_SLOT": str(slot.absolute())}
            Tool(self._stop, self._within_s, told).run(words, self._pair.folder)
