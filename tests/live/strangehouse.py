"""A server over TLS that says to the byte what a test wants: MOSIP behind gateways, and in others' spellings.

The sandbox answers as MOSIP's services do; this one answers as anything may. It logs in whoever asks, unless told.
"""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from fleetward_sandbox.mosip.app import SandboxMosip

LOGINS = ("/authenticate/clientidsecretkey", "/openid-connect/token")
Headers = tuple[str, ...]


@dataclass(frozen=True)
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def login(self) -> bool:
        return self.path.endswith(LOGINS)


Talk = Callable[[Heard, int], bytes]
"""What is answered to a request, and to the how-many-th of its kind (logins, or the rest), from 1."""


def http(body: object, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole answer; a body that is not bytes is said as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status}", f"content-length: {len(raw)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def wrapped(response: object, errors: object = None) -> dict[str, Any]:
    """Return MOSIP's wrapper."""
    return {"id": None, "version": None, "responsetime": None, "metadata": None, "response": response, "errors": errors}


def let_in(token: str = "a-token") -> bytes:
    """Return authmanager's answer to a good login."""
    return http(wrapped({"status": "success"}), "200 OK", f"set-cookie: Authorization={token}; Path=/; HttpOnly")


@dataclass
class Strange:
    """It, listening. mosip: whose certificates it shows. Tests that hold it set ``talk`` and ``logs_in``."""

    mosip: SandboxMosip
    talk: Talk = lambda _, __: http({})
    logs_in: Talk = lambda _, __: let_in()
    heard: list[Heard] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def said(self, heard: Heard) -> bytes:
        """Return what is answered."""
        self.heard.append(heard)
        number = sum(one.login is heard.login for one in self.heard)
        return (self.logs_in if heard.login else self.talk)(heard, number)


@contextmanager
def strange(mosip: SandboxMosip) -> Iterator[Strange]:
    """Listen until the end; connections end with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mosip.pki.folder / "tls.pem", mosip.pki.folder / "tls.key.pem")
    house, threads = Strange(mosip), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        house.port = listener.getsockname()[1]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=_serve, args=(listener.accept()[0], context, house)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield house
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(60)
        assert not thread.is_alive()


def _serve(connection: socket.socket, context: ssl.SSLContext, house: Strange) -> None:
    with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as secured:
        secured.settimeout(60)
        reader = secured.makefile("rb")
        while line := reader.readline():
            pairs = (one.decode().split(":", 1) for one in iter(lambda: reader.readline().strip(), b""))
            headers = {name.lower(): value.strip() for name, value in pairs}
            body = reader.read(int(headers.get("content-length", 0)))
            secured.sendall(house.said(Heard(line.split()[1].decode(), headers, body)))
