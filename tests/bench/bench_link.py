"""What the link costs: messages received and acknowledged against a bare paho loop, and memory and dials of many lines.

Both receive the same flood from the same stub, which is a process of its own, in turns; the median of the ratios
counts, since one run on a shared machine says little. Run: ``python -m tests.bench.bench_link [rounds] [lines]``.
"""

import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from fleetward_broker.line import Arrived, Connected, Dial
from fleetward_broker.link import SelectorLink
from tests.bench.bars import NO_BAR
from tests.live.stubbroker import Manners, Provider, StubBroker, Talk, publish_packet

MESSAGES = 20_000
SIZES = (200, 5_700)
DONE = "done"


class Flood(Talk):
    """Counts acknowledgements by their bytes, so that the stub is not what is measured; says so when all came."""

    async def run(self) -> None:
        for handle in (self._connect, self._subscribe):
            handle(*await self._packet())
        left = 4 * MESSAGES
        while left > 0 and (raw := await self.reader.read(1 << 16)):
            left -= len(raw)
        self.writer.write(publish_packet(DONE, b""))
        await self.reader.read(1)


def _serve(provider: Provider, size: int, pipe: Connection) -> None:
    payload = os.urandom(size)
    flood = b"".join(publish_packet("down/" + "x" * 40, payload, mid) for mid in range(1, MESSAGES + 1))
    StubBroker.talk = Flood if size else Talk
    with StubBroker(provider.broker_context(), Manners(after_subscribe=flood if size else b"")) as broker:
        pipe.send(broker.port)
        pipe.recv()


@contextmanager
def stub(provider: Provider, size: int) -> Iterator[int]:
    """Serve in a process of its own. size: of each message of the flood; 0 for none."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(provider, size, theirs))
    process.start()
    yield ours.recv()
    ours.send("stop")
    process.join()


def _dial(provider: Provider, port: int, client: str = "c1") -> Dial:
    return Dial("localhost", port, "localhost", client, provider.client_context(), True, (("down/#", 1),))


def with_link(dial: Dial) -> None:
    """Receive and acknowledge the flood through the link."""
    link, done = SelectorLink(time.monotonic), False
    link.open(lambda: dial)
    while not done:
        for event in link.poll(1.0):
            if isinstance(event, Arrived):
                link.ack(event)
                done = done or event.topic == DONE
    link.shutdown()


def with_paho(dial: Dial) -> None:
    """Receive and acknowledge the flood in paho's own loop."""
    client, done = Client(CallbackAPIVersion.VERSION2, dial.client_id, manual_ack=True), []
    client.tls_set_context(dial.context)
    client.on_connect = lambda c, *_: c.subscribe(list(dial.subscriptions))

    def on_message(c: Client, _: object, message: object) -> None:
        c.ack(message.mid, message.qos)
        done.extend([1] * (message.topic == DONE))

    client.on_message = on_message
    client.connect(dial.host, dial.port)
    while not done:
        client.loop(1.0)
    client.disconnect()


def _timed(run: Callable[[Dial], None], dial: Dial) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(dial)
    return MESSAGES / (time.perf_counter() - wall), MESSAGES / (time.process_time() - cpu)


def measure_flood(provider: Provider, size: int, rounds: int) -> None:
    with stub(provider, size) as port:
        dial = _dial(provider, port)
        pairs = [(_timed(with_paho, dial), _timed(with_link, dial)) for _ in range(rounds)]
    for place, clock in enumerate(("wall", "cpu")):
        paho, link = (statistics.median(pair[who][place] for pair in pairs) for who in (0, 1))
        ratio = statistics.median(pair[1][place] / pair[0][place] for pair in pairs)
        print(
            f"{size:5} B, by {clock:4}: link {link:7,.0f} msg/s, bare paho {paho:7,.0f} msg/s, "
            f"ratio {ratio:.2f} ({NO_BAR})"
        )


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_lines(provider: Provider, lines: int) -> None:
    with stub(provider, 0) as port:
        dials = [_dial(provider, port, f"c{n}") for n in range(lines)]
        link, before, cpu = SelectorLink(time.monotonic), _resident_bytes(), time.process_time()
        for dial in dials:
            link.open(lambda d=dial: d)
        took, longest = _connect_all(link, lines)
        cpu = time.process_time() - cpu
        print(f"{lines} lines: {lines / took:.0f} connected/s, {cpu / lines * 1e3:.1f} ms of CPU each ({NO_BAR})")
        print(f"{lines} lines: longest poll {longest * 1e3:.0f} ms with 64 dials open ({NO_BAR})")
        held = (_resident_bytes() - before) / lines / 1024
        print(f"{lines} lines: {held:.0f} KiB each beside its TLS context ({NO_BAR})")
        cpu = time.process_time()
        link.poll(5.0)
        print(f"{lines} lines: {(time.process_time() - cpu) / 5:.2%} of a core when idle ({NO_BAR})")
        link.shutdown()


def _connect_all(link: SelectorLink, lines: int) -> tuple[float, float]:
    start, connected, longest = time.perf_counter(), 0, 0.0
    while connected < lines:
        turn = time.perf_counter()
        connected += sum(isinstance(event, Connected) for event in link.poll(0.0))
        longest = max(longest, time.perf_counter() - turn)
    return time.perf_counter() - start, longest


def main(rounds: int = 5, lines: int = 500) -> None:
    with tempfile.TemporaryDirectory() as folder:
        provider = Provider(Path(folder))
        for size in SIZES:
            measure_flood(provider, size, rounds)
        measure_lines(provider, lines)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
