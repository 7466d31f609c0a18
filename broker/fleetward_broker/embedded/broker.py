"""The broker itself: amqtt's Broker for its life cycle and listeners, everything a client meets replaced by ours.

Rule: nothing of amqtt's own handling of clients is reachable: one listener, our door in front of it, no plugins.
A contract test holds amqtt to the members that are replaced or relied on here.
"""

import asyncio
import logging
import ssl
from datetime import UTC, datetime

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from fleetward_broker.embedded.caller import Caller, Revocations, identify, read_revocations
from fleetward_broker.embedded.config import Config
from fleetward_broker.embedded.connection import Clocks, Connection, House
from fleetward_broker.embedded.door import Doors, address_of
from fleetward_broker.embedded.pace import Pace
from fleetward_broker.embedded.router import Router
from fleetward_broker.embedded.store import Store, StoreUnusable
from fleetward_broker.embedded.turnstile import Turnstile
from fleetward_broker.tls import CredentialsUnusable, server_context
from fleetward_schemas.errors import Refused
from fleetward_schemas.topics import Principal

log = logging.getLogger("fleetward.broker")

LISTENER = "default"
PATROL_S = 0.25
EXPIRE_EVERY_S = 600.0
DAY_S = 86_400
FAREWELL_S = 0.5
MOST_BACKLOG = 100


class FleetBroker(Broker):
    """One broker on one address. failed: done when it cannot go on, with the reason."""

    def __init__(self, config: Config, store: Store, clocks: Clocks) -> None:
        """Read credentials and store, listen later.

        Raises:
            CredentialsUnusable, StoreUnusable: naming the file.
        """
        context, self._revoked = _credentials(config)
        super().__init__(_amqtt_config(config))
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = config
        self._house = House(Router(store, config.limits, store.load()), store, config.limits, clocks)
        limits = config.limits
        turnstile = Turnstile(limits.connects_per_s)
        self._doors = Doors(context, self._admit, turnstile, most=limits.connections, handshake_s=limits.connect_s)
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._paces: dict[str, Pace] = {}
        self._patrol: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        instance = self._servers[LISTENER].instance
        return int(next(iter(instance.sockets)).getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises amqtt's BrokerError, caused by the OSError."""
        await super().start()
        self._patrol = asyncio.create_task(self._walk())
        self._patrol.add_done_callback(self._note_failure)

    async def shutdown(self) -> None:
        """End every connection, stop listening, make durable what is left."""
        if self._patrol is not None:
            self._patrol.cancel()
        self._servers[LISTENER].instance.close()
        for connection in list(self._connections):
            connection.cut("stopping")
        await self._part(FAREWELL_S)
        for connection in list(self._connections):
            connection.abort()
        await self._part(FAREWELL_S)
        await super().shutdown()
        await self._house.store.close()

    async def _part(self, within_s: float) -> None:
        """Wait for the connections that were cut to end."""
        if self._connections:
            await asyncio.wait(self._connections.values(), timeout=within_s)

    def reload(self) -> None:
        """Read certificate, key and CRLs again; a live connection whose certificate is now revoked ends.

        Files that cannot be used leave what they are for as it is, and say so. Who is revoked is out even where a new
        certificate is there and its key is not: the two are put in place one after the other.
        """
        try:
            self._revoked = read_revocations(self._settings.tls.crls)
            self._cut_revoked()
            self._doors.context, _ = _credentials(self._settings)
        except CredentialsUnusable as problem:
            log.error("reload failed", extra={"detail": str(problem)})  # noqa: TRY400 - the message says it all
            return
        log.info("reloaded", extra={"revoked": len(self._revoked.serials)})

    def _cut_revoked(self) -> None:
        for connection in list(self._connections):
            if connection.caller.serial in self._revoked.serials:
                connection.cut("revoked")

    def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = self._identify(writer)
        if caller is None:
            writer.transport.abort()
            return
        connection = Connection((reader, writer), caller, self._pace(caller.principal), self._house)
        task = asyncio.create_task(connection.run())
        self._connections[connection] = task
        task.add_done_callback(lambda done: self._ended(connection, done))

    def _identify(self, writer: asyncio.StreamWriter) -> Caller | None:
        tls = writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        try:
            return identify(der or b"", self._revoked, datetime.fromtimestamp(self._house.clocks.posix(), UTC))
        except Refused as refused:
            fields = {"action": "identify", "address": address_of(writer.transport), "detail": str(refused)}
            log.warning("refused", extra=fields)
            return None

    def _pace(self, principal: Principal) -> Pace:
        """Return the principal's one bucket: connecting again does not fill it."""
        limits = self._house.limits.of(principal.role)
        now = self._house.clocks.monotonic()
        return self._paces.setdefault(principal.name, Pace(limits.packets_per_s, limits.burst, now))

    def _ended(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        del self._connections[connection]
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, StoreUnusable):
            self._note_failure(task)
        elif failure is not None:
            # A mistake of ours met by one client ends that client's line, not everybody's.
            log.error("connection failed", exc_info=failure, extra={"principal": connection.caller.principal.name})

    def _note_failure(self, task: "asyncio.Task[None]") -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not self.failed.done():
            self.failed.set_exception(failure)

    async def _walk(self) -> None:
        """Look after every connection's time limits, and now and then after what is no longer needed."""
        clocks = self._house.clocks
        expired_at = clocks.monotonic() - EXPIRE_EVERY_S
        while True:
            now, posix = clocks.monotonic(), clocks.posix()
            for connection in list(self._connections):
                connection.check(now, posix)
            if now - expired_at >= EXPIRE_EVERY_S:
                expired_at = now
                self._house.router.expire(int(posix) - self._house.limits.session_days * DAY_S)
                self._forget_paces(now)
            await asyncio.sleep(PATROL_S)

    def _forget_paces(self, now: float) -> None:
        present = {connection.caller.principal.name for connection in self._connections}
        for name in [n for n, pace in self._paces.items() if n not in present and pace.is_full(now)]:
            del self._paces[name]

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        """Listen with our own door, which takes its context anew for each connection."""
        del listener_name, listener_type, address, port, ssl_context
        where = self._settings.listen
        backlog = backlog_of(self._settings.limits.connections)
        return await asyncio.get_running_loop().create_server(self._doors.open, where.host, where.port, backlog=backlog)

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        """Return a context without CRLs, which therefore lets nobody in; our doors have the one that counts."""
        return server_context(listener["certfile"], listener["keyfile"], listener["cafile"], ())

    async def _client_connected(self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        """Let nobody in: clients come through our door alone."""
        del listener_name, reader
        await writer.close()


def backlog_of(connections: int) -> int:
    """Return how many new connections may wait; asyncio takes as many at once, before any can be hung up on."""
    return min(MOST_BACKLOG, max(1, connections // 8))


def _credentials(config: Config) -> tuple[ssl.SSLContext, Revocations]:
    tls = config.tls
    return server_context(tls.certificate, tls.key, tls.roots, tls.crls), read_revocations(tls.crls)


def _amqtt_config(config: Config) -> BrokerConfig:
    tls = config.tls
    listener = ListenerConfig(
        bind=f"{config.listen.host}:{config.listen.port}",
        ssl=True,
        cafile=tls.roots,
        certfile=tls.certificate,
        keyfile=tls.key,
    )
    # An empty table, not a missing one: without it amqtt loads its own plugins.
    return BrokerConfig(listeners={LISTENER: listener}, plugins={})
