"""The door: TCP and TLS in front of every connection, with small buffers, a bound on their number and a time limit.

Rule: nothing of a client is read as MQTT before its certificate was verified. Each door takes the TLS context of the
moment it is opened, so that a new CRL counts from the next handshake on. Source: protocol section 2; RFC 9325.
"""

import asyncio
import logging
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import cast

from fleetward_broker.embedded.turnstile import Turnstile

log = logging.getLogger("fleetward.broker")

RECORD_BYTES = 16 * 1024  # one TLS record: what a read can give at once (RFC 8446 section 5.1)
STREAM_BYTES = 32 * 1024
SHUTDOWN_S = 2.0

Admit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return the peer as ``host:port``, for the log."""
    peer = transport.get_extra_info("peername")
    return "unknown" if peer is None else f"{peer[0]}:{peer[1]}"


class Door(sslproto.SSLProtocol):
    """One TLS connection. Its buffers hold one record, not asyncio's 256 KiB: thousands of devices stay connected."""

    max_size = RECORD_BYTES

    def __init__(self, loop: asyncio.AbstractEventLoop, app: asyncio.Protocol, doors: "Doors") -> None:
        # No waiter: nobody waits for this handshake; its end is told by the app protocol or by connection_lost.
        waiter = cast("asyncio.Future[None]", None)
        super().__init__(
            loop,
            app,
            doors.context,
            waiter,
            server_side=True,
            ssl_handshake_timeout=doors.handshake_s,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
        self.is_through = False
        self._doors = doors
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, or hang up when the house is full."""
        self._address = address_of(transport)
        self._doors.count += 1
        if self._doors.count > self._doors.most:
            log.warning("refused", extra={"action": "accept", "detail": f"{self._doors.most} connections"})
            cast("asyncio.Transport", transport).abort()
            return
        if not self._doors.turnstile.lets_through(self._doors.now()):
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Say so when the line ends before the handshake does."""
        self._doors.count -= 1
        if not self.is_through and exc is not None:
            reason = exc.reason if isinstance(exc, ssl.SSLError) else type(exc).__name__
            log.warning("refused", extra={"action": "tls", "address": self._address, "detail": reason})
        super().connection_lost(exc)


class Doors:
    """Makes doors. context: for the next handshake; count: connections there are, with or without TLS yet."""

    def __init__(
        self, context: ssl.SSLContext, admit: Admit, turnstile: Turnstile, *, most: int, handshake_s: int
    ) -> None:
        self.context = context
        self.turnstile = turnstile
        self.most = most
        self.handshake_s = handshake_s
        self.count = 0
        self._admit = admit

    def now(self) -> float:
        """Return the loop's clock, and tell of those who were turned away."""
        now = asyncio.get_running_loop().time()
        if turned_away := self.turnstile.to_tell(now):
            log.warning("refused", extra={"action": "accept", "detail": f"storm: {turned_away} turned away"})
        return now

    def open(self) -> Door:
        """Return the protocol of one TCP connection that was just accepted."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=STREAM_BYTES, loop=loop)

        def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            door.is_through = True
            self._admit(reader, writer)

        door = Door(loop, asyncio.StreamReaderProtocol(reader, through, loop=loop), self)
        return door
