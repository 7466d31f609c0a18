"""Both brokers without TLS, for the bench alone: what a broker costs by itself. Nothing of the product listens so.

The embedded one is told who calls by a first line in clear; Mosquitto lets anybody in.
"""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from amqtt.contexts import ListenerType

from fleetward_broker.embedded import serve
from fleetward_broker.embedded.broker import FleetBroker
from fleetward_broker.embedded.caller import Caller
from fleetward_broker.embedded.door import STREAM_BYTES
from fleetward_schemas.topics import principal_of
from tests.live.brokerhouse import BrokerProcess
from tests.live.mosquittohouse import MosquittoProcess
from tests.live.rawmqtt import WAIT_S, RawClient

FAR = datetime(2099, 1, 1, tzinfo=UTC)
TLS_WORDS = (
    "cafile",
    "certfile",
    "keyfile",
    "crlfile",
    "tls_version",
    "ciphers",
    "require_certificate",
    "use_identity",
)


class PlainClient(RawClient):
    """The bare client on a bare line. first: said before all else."""

    def __init__(self, port: int, first: bytes = b"") -> None:
        bare = socket.create_connection(("127.0.0.1", port), WAIT_S)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bare.sendall(first)
        self.socket = bare  # type: ignore[assignment]
        self._rest = b""
        self._said = deque()


class PlainBroker(FleetBroker):
    """The embedded broker with no door in front of it."""

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        del listener_name, listener_type, address, port, ssl_context
        self._names: dict[asyncio.StreamWriter, str] = {}
        self._naming: set[asyncio.Task[None]] = set()
        loop, where = asyncio.get_running_loop(), self._settings.listen
        return await loop.create_server(self._line, where.host, where.port)

    def _line(self) -> asyncio.StreamReaderProtocol:
        loop = asyncio.get_running_loop()
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=STREAM_BYTES, loop=loop), self._came, loop=loop)

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._named(reader, writer))
        self._naming.add(task)
        task.add_done_callback(self._naming.discard)

    async def _named(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._names[writer] = (await reader.readline()).decode().strip()
        self._admit(reader, writer)

    def _identify(self, writer: asyncio.StreamWriter) -> Caller | None:
        principal = principal_of(self._names.pop(writer))
        return None if principal is None else Caller(principal, (b"", 0), FAR)


@dataclass
class PlainEmbedded(BrokerProcess):
    """The embedded broker's process, plain."""

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bench.plain", str(self.folder / "broker.toml")]
        with (self.folder / "broker.log").open("a") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._hear_port()

    def call(self, name: str) -> RawClient:
        return PlainClient(self.port, f"{name}\n".encode())


@dataclass
class PlainMosquitto(MosquittoProcess):
    """Mosquitto, plain."""

    def _write(self) -> Path:
        conf = super()._write()
        lines = conf.read_text().split("\n")
        first = lines.index(next(line for line in lines if line.startswith("allow_anonymous")))
        lines[first] = "allow_anonymous true"
        kept = [line for line in lines if not line.startswith((*TLS_WORDS, "acl_file"))]
        conf.write_text("\n".join(kept))
        return conf

    def call(self, name: str) -> RawClient:
        del name
        return PlainClient(self.port)


if __name__ == "__main__":
    serve.FleetBroker = PlainBroker  # type: ignore[misc]
    sys.exit(serve.main(Path(sys.argv[1])))
