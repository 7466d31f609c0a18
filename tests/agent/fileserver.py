"""A file server on loopback that does as it is told: honest, or hostile in one of the ways that servers are."""

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleetward_agent.origin import Credential
from fleetward_agent.world import tls_context
from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import make_key
from fleetward_broker.tls import chain_pem
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg
from tests.world import START, Provider


class Asked(BaseHTTPRequestHandler):
    """One request, handed to whoever is to answer it."""

    protocol_version = "HTTP/1.1"
    server: "FileServer"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.shown.append(self.connection.getpeercert(binary_form=True))  # type: ignore[attr-defined]
        answer = self.server.answers.pop(0) if self.server.answers else honest
        answer(self)

    def log_message(self, *_: object) -> None:
        """Keep no log."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    @property
    def start(self) -> int:
        wanted = self.headers.get("Range")
        return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0


Answer = Callable[[Asked], None]


def honest(asked: Asked) -> None:
    raw = asked.server.raw
    if asked.start:
        span = f"bytes {asked.start}-{len(raw) - 1}/{len(raw)}"
        asked.head(206, Content_Length=len(raw) - asked.start, Content_Range=span)
    else:
        asked.head(200, Content_Length=len(raw))
    asked.wfile.write(raw[asked.start :])


class FileServer(ThreadingHTTPServer):
    """Serves ``raw`` at any path. answers: how the next requests are answered; then honestly."""

    daemon_threads = True

    def __init__(self, folder: Path, provider: Provider, raw: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.raw = raw
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str | None]] = []
        self.shown: list[bytes | None] = []
        self.let = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_server_files(folder, provider))
        context.load_verify_locations(cadata=_pem(provider))
        context.verify_mode = ssl.CERT_OPTIONAL
        # Provider's dates are those of the tests' world.
        context.verify_flags |= 0x200000
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        """Who hangs up on a hostile server is right."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}/fw.bin"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let.set()
        self.shutdown()
        self.server_close()


def _pem(provider: Provider) -> str:
    return provider.root.certificate.public_bytes(Encoding.PEM).decode()


def _server_files(folder: Path, provider: Provider) -> tuple[Path, Path]:
    key, issuer = make_key(Alg.RS256), provider.cas[Unit.SERVICE]
    subject = Subject("files", "Example", None, ("localhost",))
    made = profiles.issue(profiles.SERVER_TLS, subject, key.public_key(), issuer, start=START)
    chain = [one.public_bytes(Encoding.DER) for one in (made, issuer.certificate)]
    (folder / "tls.pem").write_bytes(chain_pem(chain))
    (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "tls.pem", folder / "tls.key"


def device_context(provider: Provider, trusted: Provider | None = None) -> tuple[ssl.SSLContext, bytes]:
    """Return what a device dials with, and the transport certificate that it shows. trusted: another's root."""
    key = make_key(Alg.EDDSA)
    chain = provider.leaf(profiles.TRANSPORT, "a" * 26, key.public_key(), Unit.DEVICE, START)
    return tls_context(((trusted or provider).root.certificate,), Credential(key, chain), False), chain[0]
