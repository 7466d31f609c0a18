"""A connection: reads, lets the dialogue act, waits for the commit, writes; and ends when its time is over.

Rule: a PUBACK is written only after the commit of what it acknowledges. A client that sends too fast, or does not read
what it asked for, is read more slowly; nothing grows on its account. Source: deploy/decisions/0001.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from fleetward_broker.embedded.caller import Caller
from fleetward_broker.embedded.config import Limits
from fleetward_broker.embedded.dialogue import Dialogue, Owed
from fleetward_broker.embedded.door import address_of
from fleetward_broker.embedded.pace import Pace
from fleetward_broker.embedded.router import Router
from fleetward_broker.embedded.store import Store
from fleetward_broker.embedded.wire import Unwelcome, connack
from fleetward_schemas.errors import Refused

log = logging.getLogger("fleetward.broker")

CHUNK_BYTES = 64 * 1024
SLOW_BYTES = 256 * 1024
LINGER_S = 2.0
PATIENCE = 1.5  # keep-alives without a sign of life: MQTT 3.1.1 section 3.1.2.10


@dataclass(frozen=True, slots=True)
class Clocks:
    """monotonic: seconds; posix: seconds since 1970."""

    monotonic: Callable[[], float]
    posix: Callable[[], float]


@dataclass(frozen=True, slots=True)
class House:
    """What all connections share."""

    router: Router
    store: Store
    limits: Limits
    clocks: Clocks


class Connection:
    """One client from the end of its handshake on; the ``Line`` of its session."""

    def __init__(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], caller: Caller, pace: Pace, house: House
    ) -> None:
        self.caller = caller
        self.is_open = True
        self._reader, self._writer = streams
        self._pace = pace
        self._house = house
        self._dialogue = Dialogue(caller.principal, house.router, self)
        self._born = self._heard = house.clocks.monotonic()
        self._cut_at = 0.0
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0

    @property
    def is_slow(self) -> bool:
        """Whether the client reads too slowly for messages that may be dropped."""
        return self._backlog_bytes > SLOW_BYTES

    def send(self, packet: bytes) -> None:
        """Queue for writing; all of one turn leaves in one write."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(packet)
        self._unsent_bytes += len(packet)

    def cut(self, reason: str) -> None:
        """End the connection: the session leaves, its will is published unless the client said goodbye."""
        if not self.is_open:
            return
        self.is_open = False
        self._flush()
        self._cut_at = self._house.clocks.monotonic()
        self._dialogue.end(int(self._house.clocks.posix()))
        self._writer.close()
        log.info("disconnected", extra={"principal": self.caller.principal.name, "reason": reason})

    def abort(self) -> None:
        """Let go of a connection that was cut, whatever is still unsent."""
        self._writer.transport.abort()

    def check(self, now: float, posix: float) -> None:
        """End what is over at ``now``: no CONNECT, no sign of life, no valid certificate, no end to the closing."""
        if not self.is_open:
            if now - self._cut_at > LINGER_S:
                self.abort()
        elif posix >= self.caller.until.timestamp():
            self.cut("certificate expired")
        elif self._dialogue.session is None:
            if now - self._born > self._house.limits.connect_s:
                self._log_refusal("connect", f"no CONNECT within {self._house.limits.connect_s} s")
                self.cut("no CONNECT")
        elif now - self._heard > PATIENCE * self._keep_alive_s:
            self.cut("keep-alive")

    async def run(self) -> None:
        """Serve until the connection ends."""
        try:
            while self.is_open:
                await self._turn()
        except OSError:
            self.cut("lost")
        finally:
            self.cut("ended")

    async def _turn(self) -> None:
        chunk = await self._reader.read(CHUNK_BYTES)
        if not chunk:
            self.cut("lost")
        if not self.is_open:
            return
        self._heard = self._house.clocks.monotonic()
        was_stranger = self._dialogue.session is None
        try:
            owed = self._dialogue.take(chunk, int(self._house.clocks.posix()))
        except Refused as refused:
            self._refuse(refused)
            return
        if was_stranger and self._dialogue.session is not None:
            address = address_of(self._writer.transport)
            log.info("connected", extra={"principal": self.caller.principal.name, "address": address})
        await self._settle(owed)

    async def _settle(self, owed: Owed) -> None:
        if owed.durable:
            await self._house.store.commit()
        if not self.is_open:
            return
        if owed.replies:
            self.send(bytes(owed.replies))
        for step in owed.then:
            step()
        if self._dialogue.is_over:
            self.cut("goodbye")
            return
        await self._wait(owed.cost)

    async def _wait(self, cost: int) -> None:
        """Read on only when the client's pace allows it and it has read most of what it was sent."""
        now = self._house.clocks.monotonic()
        pause = self._pace.spend(cost, now)
        if pause:
            self._heard = now + pause
            await asyncio.sleep(pause)
        if self.is_slow and self.is_open:
            self._flush()
            await self._writer.drain()

    def _refuse(self, refused: Refused) -> None:
        self._log_refusal(self._dialogue.action, str(refused))
        if isinstance(refused, Unwelcome):
            self.send(connack(refused.answer))
        self.cut("refused")

    def _log_refusal(self, action: str, detail: str) -> None:
        log.warning("refused", extra={"principal": self.caller.principal.name, "action": action, "detail": detail})

    def _flush(self) -> None:
        packets, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if packets and not self._writer.is_closing():
            self._writer.write(b"".join(packets))

    @property
    def _keep_alive_s(self) -> int:
        most = self._house.limits.keep_alive_s
        return min(self._dialogue.keep_alive_s or most, most)

    @property
    def _backlog_bytes(self) -> int:
        return self._unsent_bytes + self._writer.transport.get_write_buffer_size()
