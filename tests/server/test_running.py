"""Who holds a folder: told from who only looks at it, and from who held it before."""

import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetward_server import running as module
from fleetward_server.parts import spawn
from fleetward_server.running import LOCK, READY, RUN, Held, childless, down, is_part, locked, reload_running, running

STAYS = "import time; print(flush=True); time.sleep(600)"


def test_who_holds_a_folder_is_told_by_its_run_file(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / RUN).write_text(f'{{"pid": {os.getpid()}, "port": 8883}}')
        assert running(tmp_path) == {"pid": os.getpid(), "port": 8883}
    assert running(tmp_path) is None


def test_a_run_file_that_another_left_behind_is_not_the_holders(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text('{"pid": 1, "port": 8883}')
    with locked(tmp_path):
        assert running(tmp_path) == {"pid": os.getpid()}


def test_who_looks_at_the_same_moment_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1")
    (tmp_path / RUN).write_text('{"pid": 1}')
    with (tmp_path / LOCK).open() as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        assert running(tmp_path) is None


def test_who_looks_keeps_nobody_from_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward_server.running.GLANCE_S", 60.0)
    (tmp_path / LOCK).touch()
    looker = (tmp_path / LOCK).open()
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.2, looker.close).start()
    with locked(tmp_path):
        assert running(tmp_path) == {"pid": os.getpid()}


def test_a_second_holder_is_told_the_first(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(Held, match=f"process {os.getpid()} is serving it"), locked(tmp_path):
        pass


def test_nobody_is_ended_who_has_not_said_who_he_is(tmp_path: Path) -> None:
    # Process id 0 would be our own group.
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("")
        with pytest.raises(Held, match="only beginning"):
            down(tmp_path)


@contextmanager
def taking_up(folder: Path) -> Iterator[None]:
    """Serve the folder as one that starts another server at SIGHUP."""

    def take_up(*_: object) -> None:
        (folder / RUN).write_text(json.dumps({"pid": os.getpid(), "hears": True, "server": 2}))

    before = signal.signal(signal.SIGHUP, take_up)
    try:
        with locked(folder):
            (folder / READY).touch()
            yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_up_that_is_only_starting_is_waited_for(tmp_path: Path) -> None:
    with taking_up(tmp_path):
        served = json.dumps({"pid": os.getpid(), "hears": True, "server": 1})
        threading.Timer(0.2, (tmp_path / RUN).write_text, (served,)).start()
        assert reload_running(tmp_path)
        assert running(tmp_path) == {"pid": os.getpid(), "hears": True, "server": 2}


def test_an_up_that_never_serves_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_S", 0)
    with taking_up(tmp_path), pytest.raises(Held, match="does not come to serve"):
        reload_running(tmp_path)


def test_what_a_former_up_started_ends_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with childless(tmp_path) as kept:
        child = spawn(
            "broker",
            [sys.executable, "-c", STAYS],
            tmp_path / "log",
            keeps=(kept,),
        )
        child.first_line()
    monkeypatch.setattr(module, "STOP_S", 0.1)
    with childless(tmp_path):
        assert "still runs" in caplog.text
    caplog.clear()
    monkeypatch.setattr(module, "STOP_S", 20)
    threading.Timer(0.2, child.process.kill).start()
    with childless(tmp_path):
        # The kernel lets go of its files a little before it says that it has ended.
        assert child.process.wait(60) < 0
        assert caplog.text == ""
    child.process.communicate()


def test_a_number_that_is_a_stranger_s_by_now_is_no_part(tmp_path: Path) -> None:
    child = spawn("broker", [sys.executable, "-c", STAYS], tmp_path / "log")
    assert is_part(child.process.pid, os.getpid())
    assert not is_part(child.process.pid, os.getppid())
    assert not is_part(os.getpid(), os.getpid())
    child.process.kill()
    os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)
    # It has ended, and nobody has asked how.
    assert not is_part(child.process.pid, os.getpid())
    child.process.communicate()
    assert not is_part(child.process.pid, os.getpid())
