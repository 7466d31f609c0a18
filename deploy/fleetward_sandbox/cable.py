"""A cable between devices and broker that can be cut and mended: plain TCP, blind to the TLS inside.

It stands in for a bad network. One thread of its own around one selector; told what to do through two flags.
"""

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field

POLL_S = 0.05
CHUNK_BYTES = 65536
MOST_WAITING_BYTES = 1 << 20


@dataclass(slots=True)
class _End:
    """One socket, what waits to be written to it, and the end it is tied to."""

    socket: socket.socket
    other: "_End | None" = None
    waiting: bytearray = field(default_factory=bytearray)


class Cable:
    """A relay on a free loopback port to (host, port)."""

    def __init__(self, host: str, port: int) -> None:
        """Listen at once; ``port`` tells where."""
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ends: set[socket.socket] = set()
        self._whole = threading.Event()
        self._whole.set()
        self._moving = threading.Event()
        self._moving.set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where devices dial."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """End every connection and take no new one until mended."""
        self._whole.clear()

    def freeze(self) -> None:
        """Pass nothing on any more and end nothing, as when a cable is pulled; ``cut`` or ``mend`` come after it."""
        self._moving.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._moving.set()
        self._whole.set()

    def close(self) -> None:
        """End it all."""
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._moving.is_set():
                # Its own wait for the end of the silence; whole or not is seen to after it.
                self._moving.wait(POLL_S)
                if self._whole.is_set():
                    continue
            for key, mask in self._selector.select(POLL_S):
                if key.data is None:
                    self._accept()
                elif key.fileobj in self._ends:
                    self._pump(key.data, mask)
            if not self._whole.is_set():
                self._end_all()
        self._end_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self._listener.accept()
            if not self._whole.is_set():
                near.close()
                return
            self._tie(near)

    def _tie(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=2)
        except OSError:
            near.close()
            return
        one, two = _End(near), _End(far)
        one.other, two.other = two, one
        for end in (one, two):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.add(end.socket)
            self._selector.register(end.socket, selectors.EVENT_READ, end)

    def _pump(self, end: _End, mask: int) -> None:
        other = end.other
        if other is None:
            return
        try:
            if mask & selectors.EVENT_WRITE:
                del end.waiting[: end.socket.send(end.waiting)]
            if mask & selectors.EVENT_READ:
                chunk = end.socket.recv(CHUNK_BYTES)
                if not chunk:
                    self._end(end)
                    return
                other.waiting += chunk
                del other.waiting[: other.socket.send(other.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._end(end)
            return
        self._mind(end)
        self._mind(other)

    def _mind(self, end: _End) -> None:
        """Read from an end only while what it says can be passed on."""
        full = end.other is not None and len(end.other.waiting) > MOST_WAITING_BYTES
        wanted = (0 if full else selectors.EVENT_READ) | (selectors.EVENT_WRITE if end.waiting else 0)
        self._selector.modify(end.socket, wanted or selectors.EVENT_WRITE, end)

    def _end(self, end: _End) -> None:
        for one in (end, end.other):
            if one is not None and one.socket in self._ends:
                self._ends.discard(one.socket)
                self._selector.unregister(one.socket)
                one.socket.close()

    def _end_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _End):
                self._end(key.data)
