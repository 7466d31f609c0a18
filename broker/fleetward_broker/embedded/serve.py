"""The broker's process: one JSON line when it serves, signals, and exit codes that say what went wrong.

0: stopped by SIGTERM or SIGINT. 2: configuration, credentials or store cannot be used. 3: the address cannot be had.
4: it could not go on. SIGHUP: certificates and CRLs are read again.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from amqtt.errors import BrokerError

from fleetward_broker.embedded.broker import FleetBroker, backlog_of
from fleetward_broker.embedded.config import BadConfig, Config, load
from fleetward_broker.embedded.connection import Clocks
from fleetward_broker.embedded.sqlite import SqliteStore
from fleetward_broker.embedded.store import StoreUnusable
from fleetward_broker.logs import start_logging
from fleetward_broker.tls import CredentialsUnusable

log = logging.getLogger("fleetward.broker")

STOPPED, UNUSABLE, NO_ADDRESS, FAILED = 0, 2, 3, 4
OWN_FILES = 32
"""Descriptors that are no connection's: the store, the loop, certificates while they are read."""


def main(path: Path) -> int:
    """Serve the configuration in ``path`` until told to stop; return the exit code."""
    try:
        config = load(path)
        start_logging(config.log.level, config.log.format)
        _quiet_libraries()
        most = fitting(config.limits.connections, _raise_file_limit(config.limits.connections))
        return asyncio.run(_serve(replace(config, limits=replace(config.limits, connections=most))))
    except (BadConfig, CredentialsUnusable, StoreUnusable) as problem:
        return _say(UNUSABLE, str(problem))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    broker = FleetBroker(config, SqliteStore(config.store), Clocks(loop.time, time.time))
    try:
        await broker.start()
    except BrokerError as error:
        where = f"{config.listen.host}:{config.listen.port}"
        return _say(NO_ADDRESS, f"{where}: cannot listen: {getattr(error.__cause__, 'strerror', None) or error}")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, broker.reload)
    _announce(config.listen.host, broker.port)
    stopped = asyncio.create_task(_until(stop))
    await asyncio.wait([stopped, broker.failed], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return await _end(broker)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _end(broker: FleetBroker) -> int:
    failure = broker.failed.exception() if broker.failed.done() else None
    if failure is not None:
        log.critical("failed", exc_info=failure)
    try:
        await broker.shutdown()
    except StoreUnusable as problem:
        return _say(FAILED, str(problem))
    log.info("stopped")
    return STOPPED if failure is None else FAILED


def _announce(host: str, port: int) -> None:
    log.info("serving", extra={"host": host, "port": port})
    print(json.dumps({"host": host, "port": port, "pid": os.getpid()}), flush=True)


def _quiet_libraries() -> None:
    """Silence the libraries' own lines: they may hold payloads, and what we say of a connection is said here."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _raise_file_limit(connections: int) -> int:
    """Return how many files may be open from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_FILES + backlog_of(connections)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if hard < wanted:
        log.warning("few file descriptors", extra={"limit": hard, "wanted": wanted})
    return max(soft, min(wanted, hard))


def fitting(connections: int, files: int) -> int:
    """Return how many connections there may be where so many files may be open.

    One too many is hung up on; where the system had to refuse it, asyncio would ask again thousands of times a second.
    """
    most = max(1, files - OWN_FILES)
    return min(connections, max(1, most - backlog_of(most)))


def _say(code: int, problem: str) -> int:
    print(f"fleetward_broker.embedded: {problem}", file=sys.stderr)
    return code
