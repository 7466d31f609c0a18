"""The sandbox MOSIP on a port, over TLS: in a thread for tests and the demo, in front for the command line."""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import uvicorn
from cryptography import x509

from fleetward_broker.durable import write_durably, write_private
from fleetward_sandbox.mosip.app import SandboxMosip
from fleetward_sandbox.mosip.pki import open_pki, pem
from fleetward_sandbox.mosip.tokens import Tokens
from fleetward_schemas.jws import approved

CLIENT = "fleetward-device-provider"
TRUST_PROVIDER = "sandbox-ftm"
START_S = 60.0


def open_sandbox(folder: Path, now: datetime, tls_from: datetime) -> SandboxMosip:
    """Open the sandbox kept in ``folder``, making it at the first call; its register starts empty each time."""
    pki = open_pki(folder, now, tls_from)
    secret = folder / "client-secret"
    if not secret.exists():
        write_private(secret, secrets.token_urlsafe(24).encode())
    return SandboxMosip(pki, Tokens({CLIENT: secret.read_text()}))


def onboard(mosip: SandboxMosip, provider: x509.Certificate, now: datetime) -> None:
    """Take a provider in: know its key, and sign its certificate anew as ``provider.pem``."""
    mosip.register.onboard(approved(provider.public_key()))
    write_durably(mosip.pki.folder / "provider.pem", pem(mosip.pki.adopt(provider, now)))


def settings(folder: Path, port: int, profile: str) -> str:
    """Return the ``[mosip]`` table of a provider that talks to this sandbox."""
    lines = {
        "profile": profile,
        "url": f"https://localhost:{port}",
        "client_id": CLIENT,
        "secret_file": str(folder / "client-secret"),
        "ca": str(folder / "tls.pem"),
        "anchors": str(folder / "anchors.pem"),
        "certificate": str(folder / "provider.pem"),
        "trust_provider_id": TRUST_PROVIDER,
    }
    return "[mosip]\n" + "".join(f'{name} = "{value}"\n' for name, value in lines.items())


@dataclass
class Served:
    """A sandbox that listens; ``stop`` and ``start`` again keep its register and its port."""

    mosip: SandboxMosip
    port: int = 0
    _server: uvicorn.Server | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.port}"

    def start(self) -> Self:
        """Listen, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        server = uvicorn.Server(configuration(self.mosip))
        started = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=_serve, args=(server, listener, started), name="sandbox-mosip")
        self._thread.start()
        if not started.wait(START_S):
            raise TimeoutError("the sandbox MOSIP does not start")
        return self

    def stop(self) -> None:
        """Listen no more; connections end."""
        if self._server is not None and self._thread is not None:
            self._server.force_exit = True
            self._server.should_exit = True
            self._thread.join(START_S)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def configuration(mosip: SandboxMosip) -> uvicorn.Config:
    """Return how it is served: TLS 1.2 or newer, nothing logged."""
    # What happens in the middle of a spoiled answer is meant to happen.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    config = uvicorn.Config(mosip.app(), log_config=None, access_log=False, lifespan="off", ws="none")
    config.load()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(mosip.pki.folder / "tls.pem", mosip.pki.folder / "tls.key.pem")
    config.ssl = context
    return config


def _serve(server: uvicorn.Server, listener: socket.socket, started: threading.Event) -> None:
    async def run() -> None:
        watching = asyncio.create_task(_tell(server, started))
        await server.serve(sockets=[listener])
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await _hang_up(server)

    with contextlib.closing(listener):
        asyncio.run(run())


async def _hang_up(server: uvicorn.Server) -> None:
    """End connections whose other side says no goodbye, which TLS would wait for."""
    left = list(server.server_state.connections)
    for connection in left:
        if connection.transport is not None:
            connection.transport.abort()
    for _ in left:
        await asyncio.sleep(0)


async def _tell(server: uvicorn.Server, started: threading.Event) -> None:
    while not server.started:
        await asyncio.sleep(0.005)
    started.set()


def serve_in_front(mosip: SandboxMosip, port: int, ready: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM. ready: told the port once it listens."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        ready(listener.getsockname()[1])
        asyncio.run(uvicorn.Server(configuration(mosip)).serve(sockets=[listener]))
