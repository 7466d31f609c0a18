"""Who holds a folder: told from who only looks at it, and from who held it before."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from fleetward_server.running import LOCK, RUN, Held, down, locked, running


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


def test_who_looks_keeps_nobody_from_serving(tmp_path: Path) -> None:
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
