"""A UNIX socket where the host's software asks: one line, one answer in JSON, the end. It runs beside the loop.

Who asks is known from the kernel (SO_PEERCRED). Whatever a client does, it costs the loop little: so many clients,
bytes, seconds and new clients a second and no more, and nothing here waits. Source: C9 (it only tells); unix(7).
"""

import os
import selectors
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetward_agent.instant import SECOND_US
from fleetward_agent.world import Log

MOST_CLIENTS = 16
MOST_A_SECOND = 50
MOST_REQUEST = 256
PATIENCE_US = 2 * SECOND_US
AT_ONCE = 32
"""Events looked at in one turn; what is left waits for the next."""
MOST_PATH = 100
CREDENTIALS = struct.Struct("3i")
Answer = Callable[[str], bytes]


class DoorProblem(Exception):  # noqa: N818 - says what is in the way
    """The socket cannot be made; the message names the path."""


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    until_us: int
    heard: bytearray
    unsaid: bytes = b""


class Door:
    """The socket and those who ask. Its descriptor is readable when there is something to ``step`` for."""

    def __init__(self, path: Path, mode: int, allowed: frozenset[int], answer: Answer, log: Log) -> None:
        """Make the socket at ``path``, in place of one that was left there. allowed: user ids that are answered.

        Raises:
            DoorProblem: something else is there, or the path is too long. OSError: it cannot be made.
        """
        self._path, self._allowed, self._answer, self._log = path, allowed, answer, log
        self._refused: set[int] = set()
        self._clients: list[_Client] = []
        self._second, self._came = 0, 0
        self._socket = _made(path, mode)
        self._inode = path.stat().st_ino
        self._selector = selectors.EpollSelector()
        self._open = True
        self._selector.register(self._socket, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Return a descriptor to wait on."""
        return self._selector.fileno()

    def step(self, now_us: int) -> None:
        """Hear and answer as much as one turn may; end who took too long."""
        self._renew(now_us)
        for key, _ in self._selector.select(0)[:AT_ONCE]:
            if key.data is None:
                self._welcome(now_us)
            else:
                self._serve(key.data)
        for client in [one for one in self._clients if now_us >= one.until_us]:
            self._end(client)
        self._renew(now_us)

    def close(self) -> None:
        """End all, and take the socket away if it is still ours."""
        for client in list(self._clients):
            self._end(client)
        self._selector.close()
        self._socket.close()
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            self._path.unlink()

    def _renew(self, now_us: int) -> None:
        """Listen while there is room: who comes too often waits in the kernel, and wakes nobody."""
        if now_us // SECOND_US != self._second:
            self._second, self._came = now_us // SECOND_US, 0
        wanted = self._came < MOST_A_SECOND and len(self._clients) < MOST_CLIENTS
        if wanted and not self._open:
            self._selector.register(self._socket, selectors.EVENT_READ)
        elif self._open and not wanted:
            self._selector.unregister(self._socket)
        self._open = wanted

    def _welcome(self, now_us: int) -> None:
        self._came += 1
        try:
            found, _ = self._socket.accept()
        except OSError:
            return
        found.setblocking(False)
        _, user, _ = CREDENTIALS.unpack(found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        if user not in self._allowed:
            found.close()
            self._tell(user)
            return
        client = _Client(found, now_us + PATIENCE_US, bytearray())
        self._clients.append(client)
        self._selector.register(found, selectors.EVENT_READ, client)

    def _tell(self, user: int) -> None:
        """Say once of each user that it was turned away."""
        if user not in self._refused and len(self._refused) < MOST_CLIENTS:
            self._refused.add(user)
            self._log("local-refused", {"user": user})

    def _serve(self, client: _Client) -> None:
        try:
            if client.unsaid:
                self._say(client)
            else:
                self._hear(client)
        except BlockingIOError:
            return
        except OSError:
            self._end(client)

    def _hear(self, client: _Client) -> None:
        chunk = client.socket.recv(MOST_REQUEST + 1 - len(client.heard))
        client.heard += chunk
        line, newline, _ = bytes(client.heard).partition(b"\n")
        if not newline:
            if not chunk or len(client.heard) > MOST_REQUEST:
                self._end(client)
            return
        client.unsaid = self._answer(line.decode("ascii", "replace").strip())
        self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
        self._say(client)

    def _say(self, client: _Client) -> None:
        client.unsaid = client.unsaid[client.socket.send(client.unsaid) :]
        if not client.unsaid:
            self._end(client)

    def _end(self, client: _Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self._clients.remove(client)


def _made(path: Path, mode: int) -> socket.socket:
    """Make it beside its place, with its mode, and then put it there: nobody meets it half made."""
    if len(os.fsencode(path)) > MOST_PATH:
        raise DoorProblem(f"{path}: longer than {MOST_PATH} bytes: a socket's path must be short")
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise DoorProblem(f"{path}: is there and is no socket")
    beside = path.with_name(f".{os.getpid()}")
    beside.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.bind(str(beside))
        beside.chmod(mode)
        made.listen(MOST_CLIENTS)
        beside.replace(path)
    except OSError:
        made.close()
        beside.unlink(missing_ok=True)
        raise
    return made
