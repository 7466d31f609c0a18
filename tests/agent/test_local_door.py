"""A hostile program on the host gets no more than a lawful one, and the agent's loop never waits for it."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetward_agent import local_door
from fleetward_agent.instant import SECOND_US
from fleetward_agent.local_door import MOST_A_SECOND, MOST_CLIENTS, MOST_REQUEST, PATIENCE_US, Door, DoorProblem
from tests.agent.test_main import provisioned
from tests.world import Provider

ANSWER = b'{"all": "well"}\n'


class Room:
    """A door, its time, and what was asked and logged."""

    def __init__(self, path: Path, allowed: frozenset[int]) -> None:
        self.path, self.now_us = path, 100 * SECOND_US
        self.asked: list[str] = []
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.answer = ANSWER
        self.door = Door(
            path, 0o600, allowed, self._answer, lambda event, fields: self.log.append((event, dict(fields)))
        )

    def _answer(self, asked: str) -> bytes:
        self.asked.append(asked)
        return self.answer

    def step(self, times: int = 3, after_us: int = 0) -> None:
        self.now_us += after_us
        for _ in range(times):
            self.door.step(self.now_us)

    def client(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            made.connect(str(self.path))
        except OSError:
            made.close()
            raise
        return made

    def says(self, client: socket.socket) -> bytes | None:
        """Return what a client can read now; None when it has nothing, empty when it was ended."""
        try:
            return client.recv(100_000)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def ask(self, line: bytes = b"status\n") -> bytes | None:
        with self.client() as client:
            client.sendall(line)
            self.step()
            return self.says(client)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "door", frozenset({os.getuid()}))
    yield made
    made.door.close()


def test_one_line_has_one_answer_and_the_end(room: Room) -> None:
    with room.client() as client:
        client.sendall(b"info 1.0.0\nstatus\n")
        room.step()
        assert room.says(client) == ANSWER
        assert room.says(client) == b""
    assert room.asked == ["info 1.0.0"]


def test_its_mode_is_the_one_wanted_and_it_goes_with_the_agent(room: Room) -> None:
    assert stat.S_IMODE(room.path.stat().st_mode) == 0o600
    room.door.close()
    assert not room.path.exists()


def test_who_is_not_named_is_turned_away_and_told_of_once(tmp_path: Path) -> None:
    room = Room(tmp_path / "door", frozenset({os.getuid() + 1}))
    assert [room.ask(), room.ask()] == [b"", b""]
    assert (room.asked, room.log) == ([], [("local-refused", {"user": os.getuid()})])
    room.door.close()


def test_a_line_without_an_end_is_ended_after_two_seconds(room: Room) -> None:
    with room.client() as client:
        client.sendall(b"stat")
        room.step()
        assert room.says(client) is None
        room.step(after_us=PATIENCE_US)
        assert room.says(client) == b""
    assert room.asked == []


def test_a_line_that_comes_in_pieces_is_one(room: Room) -> None:
    with room.client() as client:
        for piece in (b"sta", b"tus", b"\n"):
            client.sendall(piece)
            room.step()
        assert room.says(client) == ANSWER
    assert room.asked == ["status"]


@pytest.mark.parametrize("size", [MOST_REQUEST + 1, 100_000])
def test_a_line_that_is_too_long_is_not_heard_out(room: Room, size: int) -> None:
    with room.client() as client:
        with contextlib.suppress(BlockingIOError):
            client.sendall(b"x" * size)
        room.step(5)
        assert room.says(client) == b""
    assert room.asked == []
    assert room.ask() == ANSWER


def test_a_line_of_the_greatest_length_is_heard(room: Room) -> None:
    assert room.ask(b"x" * (MOST_REQUEST - 1) + b"\n") == ANSWER


@pytest.mark.parametrize("noise", [b"\x00\xff\xfe\n", b"\n", b"\xff" * 100 + b"\n"])
def test_noise_is_a_question_like_any_other(room: Room, noise: bytes) -> None:
    assert room.ask(noise) == ANSWER


def test_who_hangs_up_in_the_middle_is_forgotten(room: Room) -> None:
    room.client().close()
    with room.client() as client:
        client.sendall(b"sta")
        client.shutdown(socket.SHUT_WR)
        room.step(6)
        assert room.says(client) == b""
    assert room.ask() == ANSWER


def test_who_does_not_read_is_ended_and_holds_nobody_up(room: Room) -> None:
    room.answer = b"x" * 10_000_000
    with room.client() as client:
        client.sendall(b"info\n")
        began = time.monotonic()
        room.step()
        # Who waited for it would wait for ever.
        assert time.monotonic() - began < 60
        room.answer = ANSWER
        assert room.ask() == ANSWER
        room.step(after_us=PATIENCE_US)
        heard = 0
        while chunk := room.says(client):
            heard += len(chunk)
        assert 0 < heard < 10_000_000


def test_a_long_answer_comes_whole_to_who_reads(room: Room) -> None:
    room.answer = b"x" * 2_000_000
    heard = 0
    with room.client() as client:
        client.sendall(b"info\n")
        for _ in range(1000):
            room.step(1)
            chunk = room.says(client)
            heard += len(chunk or b"")
            if chunk == b"":
                break
    assert heard == 2_000_000


def test_a_flood_is_bounded_in_clients_and_rate_and_a_lawful_one_has_its_turn(room: Room) -> None:
    flood: list[socket.socket] = []
    try:
        for _ in range(200):
            with contextlib.suppress(BlockingIOError):
                flood.append(room.client())
            room.step(1)
        assert len(room.door._clients) == MOST_CLIENTS
        served = 0
        for _ in range(30):
            room.step(after_us=PATIENCE_US)
            assert len(room.door._clients) <= MOST_CLIENTS
            served += 1
            if not room.door._clients:
                break
        assert served < 30
    finally:
        for one in flood:
            one.close()
    room.step(after_us=SECOND_US)
    assert room.ask() == ANSWER


def test_who_comes_too_often_waits_for_the_next_second(room: Room) -> None:
    said = [room.ask() for _ in range(MOST_A_SECOND)]
    assert said == [ANSWER] * MOST_A_SECOND
    with room.client() as client:
        client.sendall(b"status\n")
        room.step()
        assert room.says(client) is None
        room.step(after_us=SECOND_US)
        assert room.says(client) == ANSWER


def test_a_socket_that_was_left_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "door"))
    left.close()
    room = Room(tmp_path / "door", frozenset({os.getuid()}))
    assert room.ask() == ANSWER
    room.door.close()
    (tmp_path / "door").write_text("a file")
    with pytest.raises(DoorProblem, match="is no socket"):
        Room(tmp_path / "door", frozenset())
    assert (tmp_path / "door").read_text() == "a file"


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    first = Room(tmp_path / "door", frozenset({os.getuid()}))
    second = Room(tmp_path / "door", frozenset({os.getuid()}))
    first.door.close()
    assert second.ask() == ANSWER
    second.door.close()


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(DoorProblem, match="short"):
        Room(tmp_path / ("x" * local_door.MOST_PATH), frozenset())


def asked(path: Path, line: bytes, within_s: float = 120) -> dict[str, Any]:
    """Ask a running agent, again and again while it does not listen or turns us away for too many."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(line)
                said = b"".join(iter(lambda: client.recv(65536), b""))
                found: dict[str, Any] = json.loads(said)
                return found
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise


def test_an_agent_at_work_answers_through_a_flood_and_ends_when_it_is_told_to(
    tmp_path: Path, provider: Provider
) -> None:
    folder = provisioned(tmp_path, provider)
    text = '[server]\nhost = "127.0.0.1"\nport = 1\n[local]\nfile = "info.json"\nsocket = "door"\n'
    (folder / "agent.toml").write_text(text)
    program = [sys.executable, "-m", "fleetward_agent", "run", "--device", str(folder)]
    agent = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    stop = threading.Event()
    try:
        assert asked(folder / "door", b"status\n")["devices"][0]["error"]["errorCode"] == "100"
        floods = [threading.Thread(target=flood, args=(folder / "door", stop)) for _ in range(3)]
        for one in floods:
            one.start()
        assert len(asked(folder / "door", b"info 1.0.0\n")["info"]) == 1
        assert json.loads((folder / "info.json").read_bytes())["devices"][0]["deviceStatus"] == "Not Registered"
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0
        assert not (folder / "door").exists()
    finally:
        stop.set()
        agent.kill()
        agent.wait()
    for one in floods:
        one.join()


def flood(path: Path, stop: threading.Event) -> None:
    """Come in, say half a line or far too much, and come again."""
    held: list[socket.socket] = []
    while not stop.is_set():
        try:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.setblocking(False)
            held.append(one)
            one.connect(str(path))
            one.send(b"stat" if len(held) % 2 else b"x" * 50_000)
        except OSError:
            stop.wait(0.01)
        if len(held) > 20:
            held.pop(0).close()
    for one in held:
        one.close()
