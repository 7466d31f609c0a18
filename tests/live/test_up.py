"""``up`` and ``down``: one folder, one holder, ended cleanly, and clear words when something is wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from fleetward_server.running import RUN
from tests.live.house import BROKERS, House, alive

pytestmark = pytest.mark.live


def fleetward(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would."""
    command = [sys.executable, "-m", "fleetward_server", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_a_second_up_says_who_holds_the_folder(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        second = fleetward("up", "--dir", str(house.folder))

        assert second.returncode == 5
        assert str(house.found()["pid"]) in second.stderr
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize("broker", BROKERS)
def test_down_ends_all_of_it(tmp_path: Path, broker: str) -> None:
    with House(tmp_path, broker=broker) as house:
        found = house.found()
        assert found["broker_kind"] == broker

        done = fleetward("down", "--dir", str(house.folder))

        assert done.returncode == 0, done.stderr
        assert house.up is not None
        assert house.up.wait(60) == 0
        assert not (house.folder / RUN).exists()
        assert not any(alive(int(found[part])) for part in ("broker", "server"))


def test_down_without_up_says_so(tmp_path: Path) -> None:
    with House(tmp_path, serve=False) as house:
        done = fleetward("down", "--dir", str(house.folder))

        assert done.returncode == 3
        assert "nothing is running" in done.stderr


def test_a_stale_run_file_stops_nobody(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        assert house.up is not None
        house.up.kill()
        house.up.wait()
        stale = (house.folder / RUN).read_text()

        house.wait(lambda: not any(alive(int(json.loads(stale)[p])) for p in ("broker", "server")), "children end too")
        house.serve()
        house.wait(lambda: house.found().get("pid") == house.up.pid, "a new run file")  # type: ignore[union-attr]


def test_an_up_waits_for_the_end_of_what_another_started(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        assert house.up is not None
        before = house.found()
        path = house.folder / "fleetward.toml"
        path.write_text(path.read_text().replace("port = 0", f"port = {before['port']}"))
        # Its broker is slow to end, and holds the port until then.
        os.kill(before["broker"], signal.SIGSTOP)
        house.up.kill()
        house.up.wait()
        begun: list[psutil.Process] = []

        def go_on() -> None:
            assert house.up is not None
            begun.extend(psutil.Process(house.up.pid).children())
            os.kill(before["broker"], signal.SIGCONT)

        threading.Timer(2.5, go_on).start()

        house.serve()

        house.wait(lambda: house.found().get("pid") == house.up.pid, "a new run file")  # type: ignore[union-attr]
        assert house.found()["port"] == before["port"]
        assert begun == []
        assert not alive(before["broker"])


@pytest.mark.parametrize("part", ["broker", "server"])
@pytest.mark.parametrize("broker", BROKERS)
def test_a_part_that_dies_is_started_again(tmp_path: Path, broker: str, part: str) -> None:
    with House(tmp_path, broker=broker) as house:
        before = house.found()[part]

        house.kill(part)

        house.wait(lambda: house.found().get(part, before) != before, f"another {part}")
        (made,) = house.provision(1)
        house.start_agent(made.folder)
        house.wait(lambda: house.reports(made.id), "an agent reports")


@pytest.mark.parametrize("broker", BROKERS)
def test_a_port_in_use_is_named(tmp_path: Path, broker: str) -> None:
    with House(tmp_path, serve=False) as house, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = house.folder / "fleetward.toml"
        path.write_text(path.read_text().replace("port = 0", f"port = {port}"))

        done = fleetward("up", "--dir", str(house.folder), "--broker", broker)

        assert done.returncode != 0
        assert str(port) in done.stderr
        assert "Traceback" not in done.stderr


def test_ctrl_c_is_clean(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        assert house.up is not None

        house.up.send_signal(signal.SIGINT)

        assert house.up.wait(60) in {0, 130}
        assert not (house.folder / RUN).exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "fleetward.toml").write_text("[provider\n"), "line 1"),
        (lambda folder: (folder / "pki" / "device-ca.key.pem").unlink(), "device-ca.key.pem"),
        (lambda folder: (folder / "pki" / "device-ca.key.pem").chmod(0o644), "chmod 600"),
        (lambda folder: (folder / "server.db").write_bytes(b"no database"), "server.db"),
        (lambda folder: (folder / "server.db").unlink(), "restore it from a backup"),
        (lambda folder: (folder / "pki" / "broker.pem").write_text("x"), "broker.pem"),
        (lambda folder: (folder / "pki" / "server.pem").write_text("x"), "server.pem"),
    ],
    ids=[
        "broken TOML",
        "key gone",
        "key open to others",
        "no database",
        "lost register",
        "broker's certificate",
        "ours",
    ],
)
def test_a_folder_that_cannot_serve_says_what_is_wrong_in_one_line(tmp_path: Path, spoil: object, said: str) -> None:
    with House(tmp_path, serve=False) as house:
        house.store.close()
        spoil(house.folder)  # type: ignore[operator]

        done = fleetward("up", "--dir", str(house.folder))

        assert done.returncode in {1, 2}
        assert said in done.stderr
        assert "Traceback" not in done.stderr
