"""Installers: the new version runs or the old one does, whenever the process dies, and neither in part."""

import contextlib
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent import launch
from fleetward_agent.installers import Broken, Installer, Package, Place
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
from fleetward_schemas.upgrade import Why
from tests.agent.packages import dies_at, package, place, program, tar
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


KINDS = {"slots": slots, "file": one_file, "anchors": anchors, "module": module, "agent": itself}


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return KINDS[request.param](tmp_path)


def benches(tmp_path: Path, kind: str) -> "itertools.count[int]":
    """Yield a new bench and its number, again and again."""
    # A module's many programs make it slow: every third point of it.
    for number in itertools.count(0, 3 if kind == "module" else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = KINDS[kind](folder)
        made.upgrade(made.package("old", 1))
        (folder / "phase").write_text(STEPS[0])
        yield number, made  # type: ignore[misc]


def test_a_version_takes_the_place_of_the_one_before(bench: Bench) -> None:
    for version, counter in (("old", 1), ("new", 2), ("old", 3), ("new", 4)):
        bench.upgrade(bench.package(version, counter))

        assert bench.runs() == version


def test_what_runs_is_not_touched_before_it_is_activated(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    bench.do("install", bench.package("new", 2))

    assert bench.runs() == "old"


def test_it_goes_back_and_may_be_tried_again(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    release = bench.package("new", 2)
    for _ in range(3):
        bench.do("install", release)
        bench.do("activate", release)
        assert bench.runs() == "new"
        bench.do("roll_back", release)
        assert bench.runs() == "old"

    bench.upgrade(release)
    assert bench.runs() == "new"


def test_the_first_version_of_all_leaves_nothing_when_it_goes_back(bench: Bench) -> None:
    release = bench.package("new", 1)
    bench.do("install", release)
    bench.do("activate", release)
    bench.do("roll_back", release)

    assert bench.runs() == ""


def test_steps_may_come_again(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    release = bench.package("new", 2)
    for step in STEPS:
        bench.do(step, release)
        bench.do(step, release)
    assert bench.runs() == "new"

    newer = bench.package("old", 3)
    bench.do("install", newer)
    bench.do("activate", newer)
    for _ in range(2):
        bench.do("roll_back", newer)
    assert bench.runs() == "new"


def test_what_was_never_installed_cannot_be_activated_nor_checked(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    for step in ("activate", "check"):
        with pytest.raises(Broken):
            bench.do(step, bench.package("new", 2))
    bench.do("roll_back", bench.package("new", 2))

    assert bench.runs() == "old"


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_anywhere_comes_to_the_same_end(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        died = dies_at(number, lambda made=made, release=release: made.upgrade(release))
        made.go_on(release)
        # A module that was cut off in the middle of a state has failed, and goes back.
        assert made.runs() == "new" or (kind == "module" and made.runs() == "old"), f"dead at {number}"
        if not died:
            assert number > 5
            return


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_anywhere_can_go_back(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        steps = [lambda step=step, made=made, release=release: made.do(step, release) for step in STEPS[:3]]
        died = dies_at(number, lambda steps=steps: [step() for step in steps])
        made.restart()
        made.do("roll_back", release)
        assert made.runs() == "old", f"dead at {number}"
        made.upgrade(release)
        assert made.runs() == "new"
        if not died:
            return


@pytest.mark.parametrize("kind", KINDS)
def test_going_back_may_be_cut_off_anywhere(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        for step in STEPS[:2]:
            made.do(step, release)
        died = dies_at(number, lambda made=made, release=release: made.do("roll_back", release))
        if died and (made.folder / "phase").read_text() != "roll_back":
            (made.folder / "phase").write_text("roll_back")
        # A module whose rollback a crash cut off says that it cannot: nobody knows how far it came.
        with contextlib.suppress(Broken) if kind == "module" else contextlib.nullcontext():
            made.go_on(release)
        made.restart()
        assert made.runs() == "old" or kind == "module", f"dead at {number}"
        if not died:
            assert made.runs() == "old"
            return


# What each kind is strict about.


def test_an_unhealthy_slot_is_told(tmp_path: Path) -> None:
    told = slots(tmp_path)
    program(tmp_path / "check.sh", 'grep -q new "$FLEETWARD_SLOT/version" && exit 4; exit 0')
    told.upgrade(told.package("old", 1))
    release = told.package("new", 2)
    told.do("install", release)
    told.do("activate", release)

    with pytest.raises(Broken, match="ended with 4"):
        told.do("check", release)


def test_a_link_that_leads_elsewhere_is_not_switched(tmp_path: Path) -> None:
    made = slots(tmp_path)
    (tmp_path / "fw").mkdir()
    (tmp_path / "fw" / "current").symlink_to("/usr")

    with pytest.raises(Broken, match="expected a or b"):
        made.do("install", made.package("new", 1))
    assert (tmp_path / "fw" / "current").readlink() == Path("/usr")


def test_a_program_is_given_no_more_than_its_time(tmp_path: Path) -> None:
    table = OneFile("firmware", path="fw", apply=[program(tmp_path / "slow", "sleep 60 & sleep 60")], within_s=1)
    made = FileInstaller(table, place(tmp_path))
    release = package(tmp_path, b"new")
    made.install(release)

    with pytest.raises(Broken, match="no end within 1 s"):
        made.activate(release)


def test_an_agent_that_ends_ends_its_programs(tmp_path: Path) -> None:
    here = place(tmp_path)
    table = OneFile("firmware", path="fw", apply=[program(tmp_path / "slow", "sleep 60")])
    made = FileInstaller(table, here)
    release = package(tmp_path, b"new")
    made.install(release)
    here.stop.set()

    with pytest.raises(Broken) as stopped:
        made.activate(release)
    assert stopped.value.why is Why.INTERRUPTED


@pytest.mark.parametrize("text", ["yes & exit 0", "exec yes", "head -c 100000 /dev/zero"])
def test_a_program_that_floods_is_borne_and_its_words_are_not_kept(tmp_path: Path, text: str) -> None:
    table = OneFile("firmware", path="fw", apply=[program(tmp_path / "loud", text)], within_s=1)
    made = FileInstaller(table, place(tmp_path))
    release = package(tmp_path, b"new")
    made.install(release)

    with pytest.raises(Broken, match="no end") if text == "exec yes" else contextlib.nullcontext():
        made.activate(release)
    assert (tmp_path / "fw").read_bytes() == b"new"


@pytest.mark.parametrize("raw", [b"", b"none", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_anchors_are_certificates(tmp_path: Path, raw: bytes) -> None:
    made = anchors(tmp_path)
    made.upgrade(made.package("old", 1))
    given = package(tmp_path, raw or b"\n", 2)

    with pytest.raises(Broken, match="no anchors"):
        made.do("install", given)
    made.do("roll_back", given)
    assert made.runs() == "old"


def told(folder: Path) -> list[str]:
    return (folder / "told").read_text().split()


def test_a_module_is_told_its_states_in_order(tmp_path: Path) -> None:
    made = module(tmp_path)
    made.upgrade(made.package("new", 1))

    asked = ["SupportsRollback", "NeedsArtifactReboot"]
    assert told(tmp_path) == [*asked, "ArtifactInstall", "NeedsArtifactReboot", "ArtifactCommit", "Cleanup"]
    made.do("settle", made.package("new", 1))
    assert told(tmp_path)[-1] == "Cleanup"
    assert len(told(tmp_path)) == 6


def test_a_module_that_reboots_by_itself_is_told_once_also_if_it_never_returns(tmp_path: Path) -> None:
    made = module(tmp_path, "Yes")
    release = made.package("new", 1)
    for step in ("install", "activate", "activate", "check", "settle"):
        assert made.do(step, release) is Needs.NOTHING

    assert told(tmp_path)[3:] == [
        "NeedsArtifactReboot",
        "ArtifactReboot",
        "ArtifactVerifyReboot",
        "ArtifactCommit",
        "Cleanup",
    ]


def test_a_module_that_wants_a_reboot_gets_one_where_there_is_a_program_for_it(tmp_path: Path) -> None:
    made = module(tmp_path, "Automatic")
    release = made.package("new", 1)
    with pytest.raises(Broken) as refused:
        made.do("install", release)
    assert refused.value.why is Why.NO_INSTALLER

    may = ModuleInstaller(Module("firmware", program=str(tmp_path / "single-file")), place(tmp_path, may_reboot=True))
    may.install(release)
    assert may.activate(release) is Needs.REBOOT
    may.check(release)
    assert told(tmp_path)[-1] == "ArtifactVerifyReboot"
    assert may.roll_back(release) is Needs.REBOOT
    assert told(tmp_path)[-3:] == ["ArtifactRollback", "ArtifactFailure", "Cleanup"]


def test_a_module_finds_its_file_api(tmp_path: Path) -> None:
    made = module(tmp_path, device_type="acme-slap")
    made.upgrade(made.package("old", 1))
    made.do("install", made.package("new", 2))
    api = place(tmp_path).work / "payload"

    texts = {name: (api / name).read_text() for name in ("version", "artifact_name", "device_type")}
    assert texts == {"version": "3", "artifact_name": "firmware-1", "device_type": "acme-slap"}
    assert (api / "files" / "firmware-2.bin").read_text() == "new"
    assert list((api / "tmp").iterdir()) == []
    assert json.loads((api / "header" / "type-info").read_text()) == {"type": "single-file"}
    assert json.loads((api / "header" / "header-info").read_text())["artifact_provides"] == {
        "artifact_name": "firmware-2"
    }


def test_a_module_that_cannot_go_back_is_taken_only_where_that_is_said(tmp_path: Path) -> None:
    for one_way in (False, True):
        folder = tmp_path / str(one_way)
        folder.mkdir()
        made = module(folder, one_way=one_way)
        text = (folder / "single-file").read_text().replace("echo Yes", ":")
        program(folder / "single-file", text)
        release = made.package("new", 1)
        if not one_way:
            with pytest.raises(Broken, match="supports no rollback"):
                made.do("install", release)
            continue
        made.do("install", release)
        made.do("activate", release)
        with pytest.raises(Broken) as cannot:
            made.do("roll_back", release)
        assert cannot.value.why is Why.ROLLBACK
        assert told(folder)[-2:] == ["ArtifactFailure", "Cleanup"]


def test_an_agent_without_a_launcher_is_not_replaced(tmp_path: Path) -> None:
    made = itself(tmp_path)
    del made.told[launch.SLOTS]

    with pytest.raises(Broken) as refused:
        made.do("install", made.package("new", 1))
    assert refused.value.why is Why.NO_INSTALLER


def test_a_tree_without_an_agent_is_refused(tmp_path: Path) -> None:
    made = itself(tmp_path)

    with pytest.raises(Broken, match="no agent in it"):
        made.do("install", package(tmp_path, tar({"version": "new"}), 1))
    assert not (tmp_path / "agent" / "a").exists()


def test_a_trial_that_the_launcher_gave_up_is_unhealthy_and_may_be_tried_again(tmp_path: Path) -> None:
    made = itself(tmp_path)
    made.upgrade(made.package("old", 1))
    release = made.package("new", 2)
    made.do("install", release)
    made.do("activate", release)
    for _ in range(launch.MOST_STARTS):
        made.restart()

    assert made.runs() == "old"
    for step in ("check", "activate"):
        with pytest.raises(Broken):
            made.do(step, release)
    assert made.do("roll_back", release) is Needs.NOTHING
    made.upgrade(release)
    assert made.runs() == "new"


def test_settling_again_disturbs_no_later_trial(tmp_path: Path) -> None:
    made = itself(tmp_path)
    release = made.package("old", 1)
    made.upgrade(release)
    made.do("install", made.package("new", 2))
    made.do("activate", made.package("new", 2))
    made.do("settle", release)
    made.restart()

    assert made.runs() == "new"


def test_places_are_not_shared(tmp_path: Path) -> None:
    assert isinstance(place(tmp_path), Place)
