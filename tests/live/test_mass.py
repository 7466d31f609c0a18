"""The real program on a terminal: it asks, shows how far it is, and after Ctrl-C or a kill goes on where it was."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fleetward_server.audit import verify
from fleetward_server.mass_state import Tally
from fleetward_server.store import Store
from tests.server.register import device, kept, made
from tests.server.test_operator import CONFIG

pytestmark = pytest.mark.live

MANY = 3000
CTRL_C = b"\x03"
WORDS = ("command", "send", "model:Slap-4", "sync-time", "--reason", "drift")


def started(folder: Path, terminal: int, *words: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "fleetward_server", *words, "--dir", str(folder)]
    own = {"start_new_session": True, "preexec_fn": _take_terminal}
    return subprocess.Popen(program, stdin=terminal, stdout=terminal, stderr=terminal, **own)


def _take_terminal() -> None:
    """Make the terminal on stdin the session's own, so that Ctrl-C means this program, whoever ignores it above."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_until(screen: int, *words: bytes) -> bytes:
    """Read what is shown until one of the words stands there."""
    shown = b""
    while not any(word in shown for word in words):
        shown += os.read(screen, 4096)
    return shown


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    return kept(made(tmp_path), *(device(number) for number in range(MANY)))


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_what_breaks_off_goes_on_and_does_nothing_twice(store: Store, tmp_path: Path, how: str) -> None:
    screen, terminal = os.openpty()
    program = started(tmp_path, terminal, *WORDS)
    assert f"{MANY} devices".encode() in read_until(screen, b"[y/N]")
    os.write(screen, b"y\n")
    shown = read_until(screen, b"20/3000", b"40/3000", b"60/3000", b"80/3000", b"100/3000")
    if how == "ctrl-c":
        os.write(screen, CTRL_C)
        shown += read_until(screen, b"go on with")
    else:
        os.kill(program.pid, signal.SIGKILL)
    assert program.wait(180) == (130 if how == "ctrl-c" else -signal.SIGKILL)
    (act,) = store.mass_acts(9)
    tally = store.mass_tally(act.id)
    assert act.id.encode() in shown
    assert 0 < tally.done < MANY
    assert tally.done == len(store.commands(limit=MANY))
    again = subprocess.run(
        [sys.executable, "-m", "fleetward_server", "mass", "resume", act.id, "--dir", str(tmp_path), "--json"],
        capture_output=True,
        check=False,
    )
    assert again.returncode == 0
    assert store.mass_tally(act.id) == Tally(done=MANY)
    assert set(Counter(one.device_id for one in store.commands(limit=2 * MANY)).values()) == {1}
    assert len(store.commands(limit=2 * MANY)) == MANY
    assert verify(store) == (MANY + 2, None)
    print(f"{how} after {tally.done} of {MANY}")
    store.close()
    os.close(terminal)
    os.close(screen)


def test_a_no_is_a_no(store: Store, tmp_path: Path) -> None:
    screen, terminal = os.openpty()
    program = started(tmp_path, terminal, *WORDS)
    read_until(screen, b"[y/N]")
    os.write(screen, b"\n")
    assert program.wait(180) == 6
    assert store.mass_acts(9) == ()
    assert store.commands() == ()
    store.close()
    os.close(terminal)
    os.close(screen)
