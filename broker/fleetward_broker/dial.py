"""Getting through: from a ``Dial`` to a socket that has its TLS handshake behind it, one step per readiness.

Nothing here waits: the owner calls ``step`` when the selector says so. Literal addresses and ``localhost`` are looked
up at once; other names in a worker thread whose result is polled, so that a slow name server delays nobody else.
Rule: what the peer said (a TLS alert, a wrong certificate) is told apart from what the network did, since a device
draws conclusions from a refusal, and anybody can cut a cable. Source: RFC 8446 section 6; protocol
section 5 "Time".
"""

import ipaddress
import os
import socket
import ssl
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from selectors import EVENT_READ, EVENT_WRITE

from fleetward_broker.line import Dial, Loss

# X509_V_ERR_*: certificate or CRL not yet valid, or expired (OpenSSL x509_vfy.h).
NOT_VALID_NOW = frozenset({9, 10, 11, 12})
LOOKUPS_AT_ONCE = 4

Address = tuple[socket.AddressFamily, tuple[str, int]]


class NotThrough(Exception):  # noqa: N818 - says what became of the attempt
    """The attempt ended without a line."""

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(f"{loss}: {detail}")
        self.loss = loss
        self.detail = detail


class AddressBook:
    """Names to addresses, without stopping the caller."""

    def __init__(self) -> None:
        self._workers: ThreadPoolExecutor | None = None

    def look_up(self, host: str, port: int) -> "Future[list[Address]]":
        """Return the addresses of ``host``, now or in a while."""
        if not is_quick(host):
            if self._workers is None:
                self._workers = ThreadPoolExecutor(LOOKUPS_AT_ONCE, "look-up")
            return self._workers.submit(addresses, host, port)
        found: Future[list[Address]] = Future()
        try:
            found.set_result(addresses(host, port))
        except OSError as error:
            found.set_exception(error)
        return found

    def close(self) -> None:
        """Drop what was not looked up yet; a look-up under way ends by itself."""
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)


def is_quick(host: str) -> bool:
    """Say whether ``host`` needs no name server."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def addresses(host: str, port: int) -> list[Address]:
    """Return where ``host`` listens, best first. Raises OSError."""
    found = socket.getaddrinfo(_plain(host), port, type=socket.SOCK_STREAM)
    return [(family, where) for family, _, _, _, where in found]  # type: ignore[misc]


def _plain(name: str) -> str | bytes:
    """Return an ASCII name as bytes: for text, Python loads the tables of international names first."""
    return name.encode("ascii") if name.isascii() else name


class Knock:
    """One attempt: every address in turn until one takes the TCP connection, then the handshake, once."""

    def __init__(self, dial: Dial, found: "Future[list[Address]]") -> None:
        self.dial = dial
        self._found = found
        self._left: deque[Address] | None = None
        self._tcp: socket.socket | None = None
        self._tls: ssl.SSLSocket | None = None

    @property
    def looked_up(self) -> bool:
        """Whether the addresses are known, or known to be unknown."""
        return self._found.done()

    @property
    def addresses_left(self) -> int:
        """How many addresses were not tried yet."""
        return len(self._left or ())

    @property
    def fd(self) -> int:
        """The descriptor to watch; it may differ after each step."""
        holder = self._tls or self._tcp
        return -1 if holder is None else holder.fileno()

    def step(self) -> int:
        """Go on as far as possible; return the selector events to wait for, 0 when ``take`` may be called.

        Raises:
            NotThrough: with the loss to tell.
        """
        if self._tcp is None and self._tls is None:
            return self._connect()
        if self._tls is None:
            error = self._tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._tcp else 0
            if error:
                return self.next_address(os.strerror(error))
        return self._shake_hands()

    def next_address(self, reason: str) -> int:
        """Leave the address tried now for the next one, or give up for ``reason``; returns as ``step``."""
        if not self._left:
            raise NotThrough(Loss.UNREACHABLE, reason)
        self.drop()
        return self._connect()

    @property
    def in_tcp(self) -> bool:
        """Whether an address is being tried and has not answered yet."""
        return self._tcp is not None

    def take(self) -> ssl.SSLSocket:
        """Hand over the socket, its handshake done."""
        sock, self._tls = self._tls, None
        if sock is None:
            raise NotThrough(Loss.UNREACHABLE, "nothing to hand over")
        return sock

    def drop(self) -> None:
        """Close what is open; safe to repeat."""
        self._found.cancel()
        for sock in (self._tcp, self._tls):
            if sock is not None:
                sock.close()
        self._tcp = self._tls = None

    def _connect(self) -> int:
        reason = "no address"
        left = self._addresses()
        while left:
            family, where = left.popleft()
            try:
                # In here: a process without a free descriptor has no line, and tries again later.
                self._tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                self._tcp.setblocking(False)
                # Small packets both ways: without it a round trip waits for the peer's delayed acknowledgement.
                self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._tcp.connect(where)
            except BlockingIOError:
                return EVENT_WRITE
            except OSError as error:
                reason = error.strerror or str(error)
                self.drop()
            else:
                return EVENT_WRITE
        raise NotThrough(Loss.UNREACHABLE, reason)

    def _addresses(self) -> "deque[Address]":
        if self._left is None:
            try:
                self._left = deque(self._found.result(timeout=0))
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise NotThrough(Loss.UNREACHABLE, f"{self.dial.host}: {reason}") from None
        return self._left

    def _shake_hands(self) -> int:
        try:
            if self._tls is None and self._tcp is not None:
                self._tls = self._wrap(self._tcp)
                self._tcp = None
            if self._tls is not None:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return EVENT_READ
        except ssl.SSLWantWriteError:
            return EVENT_WRITE
        except OSError as error:
            raise NotThrough(loss_of(error), detail_of(error)) from None
        return 0

    def _wrap(self, tcp: socket.socket) -> ssl.SSLSocket:
        name = _plain(self.dial.server_name)
        return self.dial.context.wrap_socket(tcp, server_hostname=name, do_handshake_on_connect=False)


def loss_of(error: OSError) -> Loss:
    """Say what a failed handshake means. An end of stream or a reset is the network's doing, not a refusal."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in NOT_VALID_NOW:
        return Loss.CERTIFICATE_NOT_VALID_NOW
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Loss.TLS_REFUSED
    return Loss.UNREACHABLE


def detail_of(error: OSError) -> str:
    """Return the failure in the fewest words: OpenSSL's verdict or reason, else the system's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error)
