"""What each kind of installer is strict about."""

import contextlib
import json
from pathlib import Path

import pytest

from fleetward_agent import launch
from fleetward_agent.installers import Broken, Place
from fleetward_agent.installers.module import ModuleInstaller
from fleetward_agent.installers.one_file import FileInstaller
from fleetward_agent.software import Module, OneFile
from fleetward_agent.upgrade_effects import Needs
from fleetward_schemas.upgrade import Why
from tests.agent.benches import anchors, itself, module, slots
from tests.agent.packages import package, place, program, tar


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
    within_s = 1 if text == "exec yes" else 60
    table = OneFile("firmware", path="fw", apply=[program(tmp_path / "loud", text)], within_s=within_s)
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
