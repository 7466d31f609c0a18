"""A small, honest MQTT 3.1.1 broker for tests of the link, which misbehaves only where it is told to.

One asyncio thread, mutual TLS, sessions in memory: what was sent at QoS 1 and not acknowledged is sent again, marked
DUP, when the same client comes back. Everything heard is kept, in order, for the test to read.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker.durable import write_private
from fleetward_broker.profiles import FACTORY, SERVER_TLS, Issuer, Subject, issue, revocation_list, self_signed
from fleetward_broker.profiles import ISSUING as CA
from fleetward_broker.signers import key_pem, make_key
from fleetward_broker.tls import chain_pem, client_context, server_context
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg

CONNACK_OK = b"\x20\x02\x00\x00"
DUP = 0x08


@dataclass(frozen=True)
class Manners:
    """How the broker behaves. connack, grant: None is silence. after_subscribe: bytes sent behind SUBACK."""

    connack: bytes | None = CONNACK_OK
    grant: int | None = 1
    closes_on: str = ""
    after_subscribe: bytes = b""
    is_acknowledging: bool = True


@dataclass(frozen=True)
class Heard:
    client: str
    what: str
    value: object = None


@dataclass
class Session:
    """One client: its connection if any, and what it has not acknowledged."""

    writer: asyncio.StreamWriter | None = None
    unacknowledged: dict[int, bytes] = field(default_factory=dict)


def publish_packet(topic: str, payload: bytes, mid: int = 0, *, dup: bool = False) -> bytes:
    """Make a PUBLISH: QoS 1 with a message id, else QoS 0."""
    body = struct.pack("!H", len(topic)) + topic.encode() + (struct.pack("!H", mid) if mid else b"") + payload
    first = 0x30 | (0x02 if mid else 0) | (DUP if dup else 0)
    return bytes([first]) + _length(len(body)) + body


def _length(count: int) -> bytes:
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)


class StubBroker:
    """Use as a context manager; ``port`` is where it listens. talk: what serves a connection."""

    talk: "type[Talk]"

    def __init__(self, context: ssl.SSLContext, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.heard: list[Heard] = []
        self.sessions: dict[str, Session] = {}
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def values(self, what: str, client: str = "") -> list[object]:
        """Return the values of one kind of packet heard, in order."""
        return [h.value for h in list(self.heard) if h.what == what and client in {"", h.client}]

    def send(self, client: str, raw: bytes) -> None:
        """Send bytes to a client that is connected."""
        self._loop.call_soon_threadsafe(lambda: self._writer(client).write(raw))

    def cut(self, client: str) -> None:
        """Break a connection without a word."""
        self._loop.call_soon_threadsafe(lambda: self._writer(client).transport.abort())

    def mute(self, client: str) -> None:
        """Read nothing more from a client, and so answer nothing."""
        self._loop.call_soon_threadsafe(lambda: self._writer(client).transport.pause_reading())

    def deliver(self, client: str, mid: int, topic: str, payload: bytes) -> None:
        """Send one message at QoS 1 and keep it until it is acknowledged."""
        self.sessions[client].unacknowledged[mid] = publish_packet(topic, payload, mid)
        self.send(client, self.sessions[client].unacknowledged[mid])

    def _writer(self, client: str) -> asyncio.StreamWriter:
        writer = self.sessions[client].writer
        if writer is None:
            raise LookupError(client)
        return writer

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(self._loop), return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = self.talk(self, reader, writer)
        self._writers.append(writer)
        try:
            await talk.run()
        except (OSError, asyncio.IncompleteReadError, EOFError):
            talk.gone()
        finally:
            writer.transport.abort()


class Talk:
    """One connection."""

    def __init__(self, broker: StubBroker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.client = ""
        self.will: tuple[str, bytes] | None = None

    async def run(self) -> None:
        handlers: dict[int, Callable[[int, bytes], None]] = {
            1: self._connect,
            3: self._publish,
            4: self._puback,
            8: self._subscribe,
            12: self._ping,
            14: self._disconnect,
        }
        while True:
            first, body = await self._packet()
            handlers[first >> 4](first, body)
            await self.writer.drain()

    def gone(self) -> None:
        self._note("gone")
        if self.will is not None:
            self._note("will", self.will)

    async def _packet(self) -> tuple[int, bytes]:
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, await self.reader.readexactly(length)

    def _note(self, what: str, value: object = None) -> None:
        self.broker.heard.append(Heard(self.client, what, value))

    def _after(self, what: str) -> None:
        if self.broker.manners.closes_on == what:
            raise EOFError(what)

    def _connect(self, _: int, body: bytes) -> None:
        flags, fields = body[7], _strings(body[10:])
        self.client = fields[0].decode()
        self.will = (fields[1].decode(), fields[2]) if flags & 0x04 else None
        session = self.broker.sessions.setdefault(self.client, Session())
        session.writer = self.writer
        self._note("connect", self.will)
        self._after("connect")
        if self.broker.manners.connack is not None:
            self.writer.write(self.broker.manners.connack)
        for packet in session.unacknowledged.values():
            self.writer.write(bytes([packet[0] | DUP]) + packet[1:])

    def _subscribe(self, _: int, body: bytes) -> None:
        names, rest = [], body[2:]
        while rest:
            size = struct.unpack("!H", rest[:2])[0]
            names.append(rest[2 : 2 + size].decode())
            rest = rest[3 + size :]
        self._note("subscribe", tuple(names))
        self._after("subscribe")
        grant = self.broker.manners.grant
        if grant is not None:
            codes = bytes([1] * (len(names) - 1) + [grant])
            self.writer.write(b"\x90" + _length(2 + len(codes)) + body[:2] + codes)
            self.writer.write(self.broker.manners.after_subscribe)

    def _publish(self, first: int, body: bytes) -> None:
        size = struct.unpack("!H", body[:2])[0]
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        qos = first >> 1 & 3
        self._note("publish", (topic, rest[2:] if qos else rest))
        if qos and self.broker.manners.is_acknowledging:
            self.writer.write(b"\x40\x02" + rest[:2])

    def _puback(self, _: int, body: bytes) -> None:
        mid = struct.unpack("!H", body)[0]
        self.broker.sessions[self.client].unacknowledged.pop(mid, None)
        self._note("puback", mid)

    def _ping(self, *_: object) -> None:
        self._note("ping")
        self.writer.write(b"\xd0\x00")

    def _disconnect(self, *_: object) -> None:
        self.will = None
        self._note("disconnect")
        raise EOFError("disconnect")


StubBroker.talk = Talk


@contextlib.contextmanager
def handshakes_only(context: ssl.SSLContext) -> Iterator[int]:
    """Do handshakes, one after the other, on the port given, and hang up; a refusal is said in an alert."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                tcp, _ = listener.accept()
                with contextlib.suppress(OSError), tcp, context.wrap_socket(tcp, server_side=True) as tls:
                    tls.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _strings(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        size = struct.unpack("!H", raw[:2])[0]
        found.append(raw[2 : 2 + size])
        raw = raw[2 + size :]
    return found


class Provider:
    """A root, a factory CA for clients and a service CA for brokers, with files as both ends want them."""

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        self.folder = folder
        self.now = now or datetime.now(UTC)
        self.born = self.now - timedelta(days=30)
        key = make_key(Alg.EDDSA)
        self.root = Issuer(self_signed(Subject("root", "Example"), key, self.born), key)
        self.clients, self.services = self._authority(Unit.FACTORY), self._authority(Unit.SERVICE)
        self.root_file = folder / "root.pem"
        self.root_file.write_bytes(self.root.certificate.public_bytes(Encoding.PEM))

    def _authority(self, unit: Unit) -> Issuer:
        key = make_key(Alg.EDDSA)
        subject = Subject(f"{unit} CA", "Example", unit)
        return Issuer(issue(CA, subject, key.public_key(), self.root, start=self.born), key)

    def client_files(self, name: str) -> tuple[Path, Path]:
        """Return a certificate and key file for a client."""
        return self._files(name, self.clients, replace(FACTORY, name=name), Subject(name, "Example"), None)

    def server_files(self, *hosts: str, end: datetime | None = None) -> tuple[Path, Path]:
        """Return a certificate and key file for a broker."""
        name = f"broker-{hosts[0]}-{end is not None}"
        return self._files(name, self.services, SERVER_TLS, Subject(hosts[0], "Example", hosts=hosts), end)

    def _files(
        self, name: str, issuer: Issuer, profile: object, subject: Subject, end: datetime | None
    ) -> tuple[Path, Path]:
        key = make_key(Alg.EDDSA)
        certificate = issue(profile, subject, key.public_key(), issuer, start=self.born, end=end)
        chain = [c.public_bytes(Encoding.DER) for c in (certificate, issuer.certificate)]
        write_private(self.folder / f"{name}.key", key_pem(key))
        (self.folder / f"{name}.pem").write_bytes(chain_pem(chain))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def crl_file(self, *revoked: int) -> Path:
        """Return the CRL of the clients' CA."""
        crl = revocation_list(self.clients, dict.fromkeys(revoked, self.now), number=1, now=self.born)
        (self.folder / "clients.crl").write_bytes(crl.public_bytes(Encoding.PEM))
        return self.folder / "clients.crl"

    def broker_context(self, *hosts: str, end: datetime | None = None, revoked: tuple[int, ...] = ()) -> ssl.SSLContext:
        """Return what a broker of this provider listens with."""
        certificate, key = self.server_files(*(hosts or ("localhost",)), end=end)
        return server_context(certificate, key, self.root_file, [self.crl_file(*revoked)])

    def client_context(self, name: str = "d1", *, check_time: bool = True) -> ssl.SSLContext:
        """Return what a client of this provider dials with."""
        return client_context(self.root_file, *self.client_files(name), check_time=check_time)
