"""A real chronyd on loopback that touches no clock (-x), and how to ask it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 120.0
LOOK_S = 0.1


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port of loopback that nobody has: of UDP, where nothing else is said."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chrony(folder: Path, *lines: str, port: int = 0) -> Iterator[tuple[str, ...]]:
    """Run one with these lines of configuration; yield how to ask it. port: where it serves NTP, 0: nowhere."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command, config = folder / "chronyd.sock", folder / "chrony.conf"
    own = (f"port {port}", "bindaddress 127.0.0.1", "cmdport 0", f"bindcmdaddress {command}")
    config.write_text("\n".join((*own, f"pidfile {folder}/chronyd.pid", *lines)) + "\n")
    program = shutil.which("chronyd", path="/usr/sbin:/sbin:/usr/bin")
    assert program is not None, "chronyd is missing: apt-get install chrony"
    with (folder / "chronyd.log").open("wb") as log:
        running = subprocess.Popen([program, "-x", "-d", "-f", str(config), "-u", "root"], stderr=log)
    try:
        wait(command.exists, "chronyd listens")
        yield ("chronyc", "-h", str(command), "-c", "-n")
    finally:
        running.terminate()
        running.wait(60)


def wait(done: Callable[[], bool], what: str) -> None:
    """Look until ``done``."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(LOOK_S)
