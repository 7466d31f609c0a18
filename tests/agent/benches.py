"""Each kind of installer at work: its software, what it installs, and how a test sees which version runs."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent import launch
from fleetward_agent.installers import Broken, Installer, Package
from fleetward_agent.installers.anchors import AnchorsInstaller
from fleetward_agent.installers.itself import AgentInstaller
from fleetward_agent.installers.module import ModuleInstaller
from fleetward_agent.installers.one_file import FileInstaller
from fleetward_agent.installers.slots import SlotsInstaller
from fleetward_agent.software import AgentItself, Module, OneFile, Slots
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker import profiles
from fleetward_broker.signers import make_key
from fleetward_schemas.jws import Alg
from tests.agent.packages import package, place, program, tar
from tests.world import START

STEPS = ("install", "activate", "check", "settle")


@dataclass
class Bench:
    """One kind of installer at work. make: a new one, as after a start. runs: which version runs now."""

    folder: Path
    make: Callable[[], Installer]
    package: Callable[[str, int], Package]
    runs: Callable[[], str]
    told: dict[str, str] = field(default_factory=dict)

    def restart(self) -> None:
        """Start the process anew, where that says what runs."""

    def do(self, step: str, release: Package) -> Needs:
        """Take one step as the agent does: written down before, and a restart where it is asked for."""
        (self.folder / "phase").write_text(step)
        needs = getattr(self.make(), step)(release)
        if needs is Needs.RESTART:
            self.restart()
        return needs or Needs.NOTHING

    def upgrade(self, release: Package, begin: str = "install") -> None:
        for step in STEPS[STEPS.index(begin) :]:
            self.do(step, release)

    def go_on(self, release: Package) -> None:
        """Enter the phase again that a crash cut off; where it cannot be, go back."""
        self.restart()
        step = (self.folder / "phase").read_text()
        if step == "roll_back":
            self.do("roll_back", release)
            return
        try:
            self.upgrade(release, step)
        except Broken:
            self.do("roll_back", release)


def slots(folder: Path) -> Bench:
    told = folder / "applied"
    apply = program(folder / "apply.sh", f'cat "$FLEETWARD_SLOT/version" > {told}')
    table = Slots("firmware", folder="fw", apply=[apply], check=[program(folder / "check.sh", "true")])

    def runs() -> str:
        link = folder / "fw" / "current"
        version = (link / "version").read_text() if link.exists() else ""
        assert not version or told.read_text() == version
        return version

    def made(version: str, counter: int) -> Package:
        return package(folder, tar({"version": version, "lib/a": "a" * 5000, "lib/b": "b"}), counter)

    return Bench(folder, lambda: SlotsInstaller(table, place(folder)), made, runs)


def one_file(folder: Path) -> Bench:
    path, told = folder / "fw.bin", folder / "applied"
    table = OneFile("firmware", path="fw.bin", apply=[program(folder / "apply.sh", f'cp "$FLEETWARD_FILE" {told}')])

    def runs() -> str:
        assert not path.exists() or told.read_text() == path.read_text()
        return path.read_text() if path.exists() else ""

    return Bench(
        folder,
        lambda: FileInstaller(table, place(folder)),
        lambda version, counter: package(folder, version.encode(), counter),
        runs,
    )


@cache
def pem(name: str) -> bytes:
    made = profiles.self_signed(profiles.Subject(name, "MOSIP"), make_key(Alg.RS256), START)
    return made.public_bytes(Encoding.PEM)


def anchors(folder: Path) -> Bench:
    pems = {name: pem(name) for name in ("old", "new")}
    path = folder / "mosip-anchors.pem"

    def runs() -> str:
        return next((name for name in pems if path.exists() and path.read_bytes() == pems[name]), "")

    return Bench(
        folder,
        lambda: AnchorsInstaller(place(folder)),
        lambda version, counter: package(folder, pems[version], counter),
        runs,
    )


MODULE = """
echo "$1" >> {log}
case "$1" in
SupportsRollback) echo Yes;;
NeedsArtifactReboot) echo {reboot};;
ArtifactInstall) cp {now} tmp/before 2>/dev/null || touch tmp/none; cp "$2"/files/* {now};;
ArtifactRollback) if [ -e tmp/before ]; then cp tmp/before {now}; elif [ -e tmp/none ]; then rm -f {now}; fi;;
esac
"""


def module(folder: Path, reboot: str = "No", **changes: object) -> Bench:
    text = MODULE.format(log=folder / "told", now=folder / "now", reboot=reboot)
    table = Module("firmware", program=program(folder / "single-file", text), **changes)  # type: ignore[arg-type]

    return Bench(
        folder,
        lambda: ModuleInstaller(table, place(folder)),
        lambda version, counter: package(folder, version.encode(), counter),
        lambda: (folder / "now").read_text() if (folder / "now").exists() else "",
    )


class Itself(Bench):
    """The agent's own slots, with the launcher between two starts."""

    def restart(self) -> None:
        self.told[launch.SLOT], _ = launch.choose(self.folder / "agent")


def itself(folder: Path) -> Bench:
    root = folder / "agent"
    told = {launch.SLOTS: os.path.realpath(root), launch.SLOT: ""}

    def runs() -> str:
        slot = told[launch.SLOT]
        return (root / slot / "version").read_text() if slot else ""

    def made(version: str, counter: int) -> Package:
        return package(folder, tar({"version": version, "fleetward_agent/serve.py": "main = print"}), counter)

    installer = lambda: AgentInstaller(AgentItself("agent", folder="agent", soak_s=0), place(folder), told)  # noqa: E731
    return Itself(folder, installer, made, runs, told)
