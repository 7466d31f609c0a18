"""The embedded broker beside Mosquitto, over mutual TLS, in alternating runs: medians, and the ratio of the two.

Ingest: 100 devices to one server at QoS 1, with a clean session and with a kept one that is durable: the embedded
broker as it is, Mosquitto told to save at each change. Fan-out: one message to 1,000 devices, until the last one has
it; and what each of these connections costs in memory. Also ingest without TLS on both, and beside 1,000 idle lines.
Run: ``python -m tests.bench.bench_brokers``.
"""

import selectors
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.bars import NO_BAR, at_least
from tests.bench.bench_broker import UNLIMITED, moved, queued
from tests.bench.plain import PlainEmbedded, PlainMosquitto
from tests.live.brokerhouse import BrokerProcess, fresh_id
from tests.live.mosquittohouse import MosquittoProcess
from tests.live.rawmqtt import RawClient, publish

LINES = 1000
MESSAGES = 30
ROUNDS = 10
QUEUED_ROUNDS = 3
BARS = {"plain": 0.7, "ingest": 0.5, "durable": 5.0}
"""What share of the other's messages per second ours is to move."""


@dataclass
class Saving(MosquittoProcess):
    """Mosquitto as durable as it gets: saved at each change."""

    def _write(self) -> Path:
        conf = super()._write()
        text = conf.read_text().replace("autosave_on_changes false", "autosave_on_changes true")
        conf.write_text(text.replace("autosave_interval 5", "autosave_interval 1"))
        return conf


def embedded(folder: Path) -> BrokerProcess:
    """Return the embedded broker, as fast as it is asked."""
    return BrokerProcess(folder, UNLIMITED)


Start = Callable[[Path], BrokerProcess]
Figures = dict[str, float]


def ingest(start: Start, folder: Path) -> Figures:
    """Return messages per second and microseconds of the broker's processor for each."""
    rate, cost = moved(start(folder), ROUNDS, clean=True)
    return {"msg/s": rate, "us each": cost}


def plain(start: Start, folder: Path) -> Figures:
    """Return the same without TLS, which nothing of ours offers: what the broker costs by itself."""
    return ingest(start, folder)


def among(start: Start, folder: Path) -> Figures:
    """Return the same beside 1,000 devices that are connected and say nothing."""
    rate, cost = moved(start(folder), ROUNDS, clean=True, idle=[fresh_id() for _ in range(LINES)])
    return {"msg/s": rate, "us each": cost}


def durable(start: Start, folder: Path) -> Figures:
    """Return the same for a kept session."""
    rate, cost = moved(start(folder), ROUNDS, clean=False)
    return {"msg/s": rate, "us each": cost}


def waiting(start: Start, folder: Path) -> Figures:
    """Return the same while the server is away: what was acknowledged is on disk, and the queue grows."""
    rate, cost = queued(start(folder), QUEUED_ROUNDS)
    return {"msg/s": rate, "us each": cost}


def fan_out(start: Start, folder: Path) -> Figures:
    """Return milliseconds until the last of 1,000 has a message, and KiB of the broker's memory for each line."""
    with start(folder) as broker:
        assert broker.process is not None
        process = psutil.Process(broker.process.pid)
        server, before = broker.server(), process.memory_info().rss
        devices = [_listener(broker) for _ in range(LINES)]
        held = (process.memory_info().rss - before) / LINES / 1024
        times = [_spread(server, devices) for _ in range(MESSAGES)]
        broker.hang_up()
    return {"ms to the last": statistics.median(times), "KiB a line": held}


def _listener(broker: BrokerProcess) -> ssl.SSLSocket:
    client: RawClient = broker.enter(broker.device())
    client.subscribe("fw/v1/fleet/#", qos=0)
    return client.socket


def _spread(server: RawClient, devices: list[ssl.SSLSocket]) -> float:
    selector = selectors.DefaultSelector()
    for device in devices:
        selector.register(device, selectors.EVENT_READ)
    began, left = time.monotonic(), len(devices)
    server.send(publish("fw/v1/fleet/beacon", b"b" * 200, qos=0))
    while left:
        for key, _ in selector.select():
            key.fileobj.recv(65536)  # type: ignore[union-attr]
            left -= 1
    took = time.monotonic() - began
    selector.close()
    return took * 1000


def beside(what: Callable[[Start, Path], Figures], own: Start, other: Start, times: int) -> None:
    """Print the medians of alternating runs, and ours to theirs."""
    found: dict[bool, list[Figures]] = {True: [], False: []}
    for _ in range(times):
        for ours, start in ((True, own), (False, other)):
            with tempfile.TemporaryDirectory() as folder:
                found[ours].append(what(start, Path(folder)))
    for name in found[True][0]:
        a, b = (statistics.median(one[name] for one in found[ours]) for ours in (True, False))
        least = BARS.get(what.__name__) if name == "msg/s" else None
        bar = NO_BAR if least is None else at_least(a / b, least)
        print(
            f"{what.__name__:8} {name:15} embedded {a:9.1f}   {other.__name__:16} {b:9.1f}   "
            f"ratio {a / b:5.2f} ({bar})",
            flush=True,
        )


def plainly(folder: Path) -> BrokerProcess:
    """Return the embedded broker without TLS."""
    return PlainEmbedded(folder, UNLIMITED)


def main(times: int = 5) -> None:
    """Print one line per figure."""
    beside(plain, plainly, PlainMosquitto, times)
    beside(ingest, embedded, MosquittoProcess, times)
    beside(among, embedded, MosquittoProcess, times)
    beside(durable, embedded, Saving, times)
    beside(waiting, embedded, Saving, times)
    beside(fan_out, embedded, MosquittoProcess, times)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
