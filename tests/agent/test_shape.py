"""What the agent may not have: a listening socket, a capture, the server's code, a clock of its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fleetward_agent
from tests.agent.test_main import provisioned
from tests.agent.test_serve import TOLD_TO_END
from tests.world import Provider

FILES = sorted(Path(fleetward_agent.__file__).parent.rglob("*.py"))
FORBIDDEN = {"fleetward_server", "fleetward_sandbox", "sqlalchemy", "rich", "typer", "structlog", "amqtt", "asyncio"}
FORBIDDEN |= {"pydantic"}
OUTSIDE = {"time", "socket", "os", "random", "secrets", "signal", "fcntl", "shutil", "subprocess", "pyudev"}
TOUCH_THE_WORLD = {
    "world.py",
    "__main__.py",
    "serve.py",
    "doctor.py",
    "host.py",
    "state.py",
    "lock.py",
    "programs.py",
    "probe.py",
    "clock_export.py",
}
TOUCH_THE_WORLD |= {"local.py", "local_door.py", "pool.py", "download.py", "launch.py", "trial.py", "workshop.py"}
TOUCH_THE_WORLD |= {"doctor_software.py", "files.py", "tool.py", "archive.py", "one_file.py", "itself.py", "module.py"}
DOOR = "local_door.py"
"""The one file that listens: on a UNIX socket, where it tells and does nothing."""
CAPTURES = ("capture", "rcapture", "biovalue", "biometric", "bdb")
HEAVY = ("sqlalchemy", "rich", "typer", "structlog", "amqtt", "fleetward_server", "asyncio", "jwt", "pyudev", "tuf")
HEAVY += ("pydantic",)


def imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in [*names, *(m for m in modules if m)]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_reaches_only_where_it_may(path: Path) -> None:
    assert not imported(path) & FORBIDDEN
    assert path.name in TOUCH_THE_WORLD or not imported(path) & OUTSIDE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_code_can_ask_for_a_capture_or_listen(path: Path) -> None:
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    words = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}

    assert path.name == DOOR or not names & {"listen", "bind", "accept", "create_server"}
    assert not names & {"AF_INET", "AF_INET6", "AF_PACKET"}
    assert not [word for word in names | words if any(capture in word.lower() for capture in CAPTURES)]


def test_nothing_heavy_is_loaded() -> None:
    code = f"import sys, fleetward_agent.__main__; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


RUN = f"""
from fleetward_agent.__main__ import main
{TOLD_TO_END}
left_out = ("tuf", "urllib3", "tarfile", "pyudev", "fleetward_agent.workshop")
left_out += ("fleetward_agent.plugs", "fleetward_agent.local")
print(main(["run", "--device", sys.argv[1]]), [m for m in left_out if m in sys.modules])
"""


def test_an_agent_without_drivers_never_loads_what_finds_plugs(tmp_path: Path, provider: Provider) -> None:
    folder = str(provisioned(tmp_path, provider))
    done = subprocess.run([sys.executable, "-c", RUN, folder], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "0 []"


def test_an_agent_with_drivers_loads_it(tmp_path: Path) -> None:
    table = (
        '[[driver]]\nname = "acme"\nvendor = "ffff"\nproduct = "ffff"\nfolder = "{serialNo}"\nprogram = ["/bin/true"]\n'
    )
    (tmp_path / "agent.toml").write_text(table)
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "0 ['pyudev', 'fleetward_agent.plugs']"
