"""What the service starts: one path in, the work of ``fleetward-agent run``, and nothing carried in vain."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fleetward_agent.serve import main
from tests.agent.test_main import provisioned
from tests.world import Provider

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "fleetward-agent.service"
EXPLAINS = ("argparse", "fleetward_agent.doctor", "fleetward_agent.status", "fleetward_broker.pkcs11_uri")
EXPLAINS += ("fleetward_agent.drivers", "fleetward_agent.plug")
LEFT_AT_HOME = (*EXPLAINS, "difflib", "tomllib")
TOLD_TO_END = """
import os, signal, sys, threading, time
def told_once_it_serves():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=told_once_it_serves, daemon=True).start()
"""
SERVE = f"""
from fleetward_agent.serve import main
{TOLD_TO_END}
print(int(main(sys.argv[1:])))
"""


def program(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("words", [[], ["one", "two"], ["--device"]])
def test_one_path_is_wanted_and_no_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage: python -m fleetward_agent.serve" in capsys.readouterr().err


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "agent.toml")]) == 2
    assert "not there" in capsys.readouterr().err


def test_a_folder_or_a_file_is_served_until_told_to_stop(tmp_path: Path, provider: Provider) -> None:
    folder = provisioned(tmp_path, provider)
    assert program(SERVE, str(folder)) == "0"

    file = folder / "agent.toml"
    file.write_text('[server]\nhost = "127.0.0.1"\nport = 1\nname = "localhost"\n')
    assert program(SERVE, str(file)) == "0"


@pytest.mark.parametrize(("module", "carried"), [("serve", ()), ("__main__", EXPLAINS)])
def test_the_service_carries_nothing_it_has_no_use_for(module: str, carried: tuple[str, ...]) -> None:
    code = f"import sys, json, fleetward_agent.{module}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(program(code)))

    assert loaded & set(LEFT_AT_HOME) == set(carried)


def test_the_unit_starts_this_program(tmp_path: Path, provider: Provider) -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
    python, *switches, path = shlex.split(line)
    assert (python, path) == ("/usr/bin/python3", "/etc/fleetward-agent/agent.toml")

    # Isolated: neither the folder it starts in nor a user's packages are looked into.
    assert "-I" in switches
    run = [sys.executable, *switches, str(tmp_path / "agent.toml")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, "not there" in done.stderr) == (2, True)
