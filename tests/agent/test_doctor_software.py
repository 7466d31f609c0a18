"""Doctor says for each piece of software whether it could be installed, and what to do where it could not."""

from pathlib import Path

import pytest

from fleetward_agent.config import from_folder
from fleetward_agent.doctor import examine
from tests.agent.packages import program
from tests.agent.test_main import provisioned
from tests.world import Provider

FILE = '[[software]]\nname = "firmware"\ninstaller = "file"\n'


@pytest.fixture
def folder(tmp_path: Path, provider: Provider) -> Path:
    return provisioned(tmp_path, provider)


def found(folder: Path, text: str) -> dict[str, tuple[bool, str]]:
    (folder / "software.toml").write_text(text)
    return {one.check: (one.ok, one.detail) for one in examine(from_folder(folder))}


def test_what_can_be_installed_is_told_with_where(folder: Path) -> None:
    tool = program(folder / "tool", ":")
    text = f'[upgrade]\nreboot = ["{tool}"]\n{FILE}path = "new/fw.bin"\napply = ["{tool}"]\n'
    text += '[[software]]\nname = "driver"\ninstaller = "slots"\nfolder = "drv"\n'
    text += '[[software]]\nname = "anchors"\ninstaller = "trust-anchors"\n'
    text += '[[software]]\nname = "agent"\ninstaller = "agent"\n'
    text += f'[[software]]\nname = "modem"\ninstaller = "module"\nprogram = "{tool}"\n'
    (folder / "drv").mkdir()
    (folder / "drv" / "current").symlink_to("a")
    told = found(folder, text)

    assert told["software firmware"] == (True, f"file: {folder / 'new'}")
    assert told["software driver"] == (True, f"slots: {folder / 'drv'}, current: a")
    assert told["software anchors"] == (True, f"trust-anchors: {folder}")
    assert told["software agent"] == (True, f"agent: {folder / 'agent'}, current: none yet")
    assert told["software modem"] == (True, f"module: {folder / 'state'}")
    assert told["reboot"] == (True, tool)


def test_what_cannot_be_is_told_with_what_to_do(folder: Path) -> None:
    (folder / "plain").write_text("no folder")
    (folder / "drv" / "current").mkdir(parents=True)
    text = f'[upgrade]\nreboot = ["/gone/reboot"]\n{FILE}path = "plain/fw.bin"\n'
    text += '[[software]]\nname = "flash"\ninstaller = "file"\npath = "x"\napply = ["/gone/flash"]\n'
    text += '[[software]]\nname = "driver"\ninstaller = "slots"\nfolder = "drv"\n'
    text += '[[software]]\nname = "own"\ninstaller = "acme"\noptions = {}\n'
    told = found(folder, text)

    expected = {
        "software firmware": "cannot write there",
        "software flash": "/gone/flash: cannot be run",
        "software driver": "expected a link to a or b",
        "software own": "0 entry points",
        "reboot": "/gone/reboot: cannot be run",
    }
    for check, words in expected.items():
        assert not told[check][0], check
        assert words in told[check][1]
    assert not (folder / "agent").exists(), "doctor changes nothing"


def test_nothing_is_looked_at_where_nothing_can_be_installed(folder: Path) -> None:
    assert not [check for check in found(folder, "") if check.startswith(("software", "reboot"))]
