"""What deploy/ gives an agent's host: a service that may do little, a rule that lets nobody else at a scanner."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fleetward_agent import launch
from fleetward_agent.serve import Exit

pytestmark = [pytest.mark.live, pytest.mark.part]
DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "fleetward-agent.service"
RULES = DEPLOY / "udev" / "60-fleetward-agent.rules"
MOST_EXPOSED = 20
"""In tenths: 2.0 of 10."""


def exposed(unit: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_service_is_exposed_by_two_of_ten_at_most() -> None:
    done = exposed(UNIT)

    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("name", ["self-upgrade", "tpm"])
def test_what_is_dropped_in_opens_no_more(tmp_path: Path, name: str) -> None:
    both = tmp_path / UNIT.name
    both.write_text(UNIT.read_text() + (UNIT.parent / f"{UNIT.name}.d" / f"{name}.conf").read_text())

    assert exposed(both).returncode == 0


def test_an_agent_that_asks_for_it_is_started_anew() -> None:
    assert re.search(rf"^RestartForceExitStatus={launch.AGAIN}$", UNIT.read_text(), re.MULTILINE)
    assert Exit.RESTART == launch.AGAIN


def test_the_launcher_is_called_as_it_wants(tmp_path: Path) -> None:
    text = (UNIT.parent / f"{UNIT.name}.d" / "self-upgrade.conf").read_text()
    (line,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    words = [sys.executable, *shlex.split(line)[1:-2], str(tmp_path), str(tmp_path / "none.toml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, "none.toml: not there" in done.stderr) == (Exit.USAGE, True)


def test_a_service_without_its_walls_would_be_found(tmp_path: Path) -> None:
    bare = tmp_path / UNIT.name
    bare.write_text("[Service]\nExecStart=/usr/bin/fleetward-agent run\n")

    assert exposed(bare).returncode != 0


def test_the_service_sees_what_the_agent_reads_of_the_kernel() -> None:
    assert not re.search(r"^(ProcSubset=pid|PrivateNetwork=yes)$", UNIT.read_text(), re.MULTILINE)
    assert "AF_NETLINK" in UNIT.read_text()


def test_no_scanner_is_open_to_everybody() -> None:
    rules = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]

    assert rules
    assert all('MODE="0640"' in rule and 'GROUP="plugdev"' in rule and 'TAG+="fleetward"' in rule for rule in rules)
