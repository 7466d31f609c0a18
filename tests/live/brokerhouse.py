"""The real broker program for tests, and a PKI to knock at its door with: every certificate from our own profiles."""

import itertools
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_private
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg
from tests.live.rawmqtt import WAIT_S, Closed, RawClient, WillOf

HOUR = timedelta(hours=1)
SUFFIX = "0123456789abcdef"
ALL_UP = "fw/v1/d/+/up/#"
NARROW = """
[limits.device]
queue_messages = 50
burst = 200
packets_per_s = 400
"""
"""Limits within a test's reach."""
_numbers = itertools.count(1)


def fresh_id() -> str:
    """Return a device id that no other test has."""
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    number, out = next(_numbers), ""
    while len(out) < 26:
        number, low = divmod(number, 32)
        out += digits[low]
    return out


@dataclass(frozen=True)
class Badge:
    """A certificate with its key, as files and as a client context."""

    name: str
    serial: int
    context: ssl.SSLContext


class Pki:
    """One provider's: a root and three issuing CAs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC).replace(microsecond=0)
        folder.mkdir(parents=True, exist_ok=True)
        key = make_key(Alg.EDDSA)
        root = Issuer(profiles.self_signed(Subject("root", "Acme"), key, self.now - HOUR), key)
        self.authorities = {unit: self._authority(root, unit) for unit in Unit}
        (folder / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        self.revoked: dict[Unit, dict[int, datetime]] = {unit: {} for unit in Unit}
        self.write_crls()
        self._server()

    def _authority(self, root: Issuer, unit: Unit) -> Issuer:
        key = make_key(Alg.EDDSA)
        subject = Subject(f"{unit} CA", "Acme", unit)
        return Issuer(profiles.issue(profiles.ISSUING, subject, key.public_key(), root, start=self.now - HOUR), key)

    def write_crls(self) -> None:
        for unit, issuer in self.authorities.items():
            crl = profiles.revocation_list(issuer, self.revoked[unit], number=next(_numbers), now=self.now - HOUR)
            (self.folder / f"{unit}.crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))

    def revoke(self, badge: Badge, unit: Unit = Unit.DEVICE) -> None:
        self.revoked[unit][badge.serial] = self.now - HOUR
        self.write_crls()

    def _server(self) -> None:
        key = make_key(Alg.RS256)
        subject = Subject("broker", "Acme", hosts=("localhost", "127.0.0.1"))
        issuer = self.authorities[Unit.SERVICE]
        leaf = profiles.issue(profiles.SERVER_TLS, subject, key.public_key(), issuer, start=self.now - HOUR)
        self._write("broker", key_pem(key), (leaf, issuer.certificate))

    def badge(
        self,
        name: str,
        profile: Profile = profiles.TRANSPORT,
        unit: Unit = Unit.DEVICE,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Badge:
        """Issue a client certificate, lawful unless told otherwise."""
        key, issuer = make_key(Alg.EDDSA), self.authorities[unit]
        leaf = profiles.issue(
            profile, Subject(name, "Acme"), key.public_key(), issuer, start=start or self.now - HOUR, end=end
        )
        stem = self._write(f"{name}-{next(_numbers)}", key_pem(key), (leaf, issuer.certificate))
        context = self.context()
        context.load_cert_chain(f"{stem}.pem", f"{stem}.key.pem")
        return Badge(name, leaf.serial_number, context)

    def context(self) -> ssl.SSLContext:
        """Return a client context without a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.folder / "root.pem")
        return context

    def _write(self, stem: str, key: bytes, chain: tuple[x509.Certificate, ...]) -> Path:
        path = self.folder / stem
        (self.folder / f"{stem}.pem").write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain))
        write_private(self.folder / f"{stem}.key.pem", key)
        return path


CONFIG = """
[listen]
host = "127.0.0.1"
port = 0
[tls]
certificate = "pki/broker.pem"
key = "pki/broker.key.pem"
roots = "pki/root.pem"
crls = ["pki/device.crl.pem", "pki/factory.crl.pem", "pki/service.crl.pem"]
[store]
path = "broker.db"
"""


@dataclass
class BrokerProcess:
    """``python -m fleetward_broker.embedded`` on a folder. falls: how often it ended by itself, to be started again."""

    folder: Path
    limits: str = ""
    process: "subprocess.Popen[str] | None" = None
    port: int = 0
    pki: Pki = field(init=False)
    dialled: list[RawClient] = field(default_factory=list)
    falls: int = 0

    def __post_init__(self) -> None:
        self.pki = Pki(self.folder / "pki")
        (self.folder / "broker.toml").write_text(CONFIG + self.limits)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.process = spawn(self.folder / "broker.toml", self.folder / "broker.log")
        self._hear_port()

    def _hear_port(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        self.port = json.loads(line)["port"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for the process's end; return its exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(WAIT_S)
        self.process.stdout.close()
        return code

    def reload(self) -> None:
        """SIGHUP, and wait until the broker says it has read its files again."""
        assert self.process is not None
        count = self.log.count(" reloaded ") + self.log.count(" reload failed ")
        self.process.send_signal(signal.SIGHUP)
        self.until(lambda: self.log.count(" reloaded ") + self.log.count(" reload failed ") > count)

    def revoke(self, badge: Badge) -> None:
        """Revoke a device's certificate, and do what it takes for the broker to act on it."""
        self.pki.revoke(badge)
        self.reload()

    @property
    def log(self) -> str:
        return (self.folder / "broker.log").read_text()

    def until(self, so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not so():
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.01)

    def call(self, name: str) -> RawClient:
        """Return a line of a device or of the server, not entered yet; nobody hangs it up."""
        badge = self.server_badge() if name == "server" else self.pki.badge(name)
        return RawClient(self.port, badge.context)

    def dial(self, badge: Badge) -> RawClient:
        client = RawClient(self.port, badge.context)
        self.dialled.append(client)
        return client

    def hang_up(self) -> None:
        """Close every line that a test left open."""
        while self.dialled:
            self.dialled.pop().socket.close()

    def device(self, name: str | None = None) -> Badge:
        return self.pki.badge(name or fresh_id())

    def server_badge(self) -> Badge:
        return self.pki.badge("server", profiles.SERVICE_CLIENT, Unit.SERVICE)

    def server(self, *filters: str) -> RawClient:
        """Return a connected server worker, subscribed."""
        client = self.dial(self.server_badge())
        assert client.enter(f"server-{next(_numbers):016d}") == (0, False)
        assert not filters or client.subscribe(*filters) == [1] * len(filters)
        return client

    def enter_as(self, badge: Badge, name: str, *, clean: bool, is_known: bool = False) -> RawClient:
        """Return a connected client whose session was there before, or was not."""
        client = self.dial(badge)
        assert client.enter(f"{name}-{SUFFIX}", clean=clean) == (0, is_known)
        return client

    def enter(self, badge: Badge, *, clean: bool = True, keep_alive: int = 60, will: WillOf | None = None) -> RawClient:
        """Return a connected client that was let in."""
        client = self.dial(badge)
        answer, _ = client.enter(f"{badge.name}-{SUFFIX}", clean=clean, keep_alive=keep_alive, will=will)
        assert answer == 0
        return client


def spawn(config: Path, log: Path) -> "subprocess.Popen[str]":
    with log.open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "fleetward_broker.embedded", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def up(name: str, kind: str = "telemetry") -> str:
    return f"fw/v1/d/{name}/up/{kind}"


def down(name: str, kind: str = "command") -> str:
    return f"fw/v1/d/{name}/down/{kind}"


def is_turned_away(broker: BrokerProcess, context: ssl.SSLContext, name: str) -> bool:
    """Say whether a client gets no CONNACK: in TLS 1.3 a refusal may come after the client's own handshake."""
    try:
        with RawClient(broker.port, context) as client:
            client.enter(f"{name}-{SUFFIX}")
    except (Closed, ConnectionError, ssl.SSLError):
        return True
    return False
