"""The artifact server as a process: HTTPS with the broker's certificate, for whoever shows one of the provider's.

Certificates and revocation lists that change are taken up by listening anew on the same socket: what is under way gets
a while to end, and who comes meanwhile waits. Source: S7; protocol section 1; ``artifacts`` for what is answered.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import socket
import ssl
import sys

import uvicorn

from fleetward_broker.tls import CredentialsUnusable, server_context
from fleetward_server.authority import ALL_REVOKED
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.releases.artifacts import Guarded, application
from fleetward_server.releases.files import TARGETS
from fleetward_server.releases.places import home, listens_on
from fleetward_server.starting import told

log = logging.getLogger("fleetward.artifacts")

LOOK_S = 1.0
ENDS_WITHIN_S = 10
MOST_HEADER_BYTES = 8192
BACKLOG = 128
EXIT_CONFIG = 2


def context(config: Config) -> ssl.SSLContext:
    """Return how it is reached. Raises: CredentialsUnusable."""
    pki = config.pki
    made = server_context(pki / "broker.pem", pki / "broker.key.pem", pki / "root.pem", [pki / "crl" / ALL_REVOKED])
    if config.releases.client_certificates == "optional":
        made.verify_mode = ssl.CERT_OPTIONAL
    return made


def server(config: Config) -> uvicorn.Server:
    """Return a server that listens on whatever socket it is given. Raises: CredentialsUnusable."""
    found = uvicorn.Config(
        application((home(config.folder) / TARGETS).absolute()),
        http=Guarded,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=config.releases.connections + 1,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=ENDS_WITHIN_S,
    )
    found.load()
    found.ssl = context(config)
    return uvicorn.Server(found)


def marks(config: Config) -> tuple[int, ...]:
    """Return what changes when a file that TLS stands on does."""
    files = [config.pki / name for name in ("broker.pem", "broker.key.pem", "root.pem", f"crl/{ALL_REVOKED}")]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


async def listen(config: Config, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Serve until told to stop, with the certificates of the day."""
    while not stopping.is_set():
        seen = marks(config)
        try:
            serving = server(config)
        except (CredentialsUnusable, OSError) as problem:
            # Between two files of one pair; the next look finds both.
            log.error("not taken up", extra={"detail": str(problem)})  # noqa: TRY400
            await asyncio.sleep(LOOK_S)
            continue
        watching = asyncio.create_task(_watch(config, serving, seen, stopping))
        # It closes what it was given: the socket itself stays, and holds who comes meanwhile.
        await serving.serve(sockets=[listener.dup()])
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(config: Config, serving: uvicorn.Server, seen: tuple[int, ...], stopping: asyncio.Event) -> None:
    while not stopping.is_set() and marks(config) == seen:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_S)
    log.info("ends" if stopping.is_set() else "certificates changed")
    serving.should_exit = True
    serving.force_exit = stopping.is_set()


def open_listener(config: Config, port: int) -> socket.socket:
    """Return the listening socket. port: 0 for the configuration's. Raises: OSError."""
    host, wanted = listens_on(config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port or wanted), family=family, backlog=BACKLOG)


async def _run(config: Config, listener: socket.socket) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    # The server below takes signals for itself while it serves, and raises them again when it has ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await listen(config, listener, stopping)


def main(argv: list[str] | None = None) -> int:
    """Run it: ``python -m fleetward_server.releases.serve --dir D``; the first line on stdout tells the port."""
    parser = argparse.ArgumentParser(prog="fleetward-artifacts", description="the bytes of releases over HTTPS")
    parser.add_argument("--port", type=int, default=0, help="where to listen, instead of what the configuration says")
    wanted = told(parser, argv)
    # What clients do wrong is theirs; a line for each would be a way to fill the disk.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    try:
        config = load(wanted.dir)
        context(config)
        listener = open_listener(config, wanted.port)
    except (ConfigProblem, CredentialsUnusable, OSError) as problem:
        log.error("cannot start", extra={"detail": str(problem)})  # noqa: TRY400
        return EXIT_CONFIG
    with listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        asyncio.run(_run(config, listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())
