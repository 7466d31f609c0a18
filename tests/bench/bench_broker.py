"""How many messages the embedded broker moves over mutual TLS: 100 publishers at QoS 1, one subscriber, one process.

Three ways to hear them: a clean session, a kept session (each message on disk before its PUBACK), and beside both the
bare floor of the same load generator against a process that only answers. Run: ``python -m tests.bench.bench_broker``.
"""

import multiprocessing
import selectors
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from fleetward_broker.tls import server_context
from tests.bench.bars import NO_BAR
from tests.live.brokerhouse import BrokerProcess, Pki
from tests.live.rawmqtt import DISCONNECT, RawClient, puback, publish

PUBLISHERS = 100
WINDOW = 20
PAYLOAD = b"p" * 200
UNLIMITED = "\n[limits.device]\npackets_per_s = 0\n"
Call = Callable[[str], RawClient]
CONNACK, PUBACK_BYTES = b"\x20\x02\x00\x00", 4


class Publisher:
    """One device that keeps ``WINDOW`` messages in the air; what comes back is only counted."""

    def __init__(self, client: RawClient, name: str, rounds: int) -> None:
        self.socket: ssl.SSLSocket = client.socket
        self.burst = b"".join(publish(f"fw/v1/d/{name}/up/telemetry", PAYLOAD, mid=mid) for mid in range(1, WINDOW + 1))
        self.rounds = rounds
        self.owed = 0

    def begin(self) -> None:
        self.rounds -= 1
        self.owed = WINDOW * PUBACK_BYTES
        self.socket.sendall(self.burst)

    def hear(self) -> bool:
        """Take what came; say whether everything is said and acknowledged."""
        self.owed -= len(self.socket.recv(65536))
        if self.owed == 0 and self.rounds:
            self.begin()
        return self.owed == 0


def flood(publishers: list[Publisher]) -> None:
    """Publish everything."""
    selector = selectors.DefaultSelector()
    for publisher in publishers:
        selector.register(publisher.socket, selectors.EVENT_READ, publisher)
        publisher.begin()
    left = len(publishers)
    while left:
        for key, _ in selector.select():
            if key.data.hear():
                selector.unregister(key.fileobj)
                left -= 1


def hear(call: Call, total: int, pipe: Connection, *, clean: bool) -> None:
    """Hear ``total`` messages and acknowledge each; every packet has the same length, so none is parsed."""
    client = call("server")
    client.enter("server-0123456789abcdef", clean=clean)
    client.subscribe("fw/v1/d/+/up/#")
    pipe.send("ready")
    size = len(publish(f"fw/v1/d/{'a' * 26}/up/telemetry", PAYLOAD))
    rest = b""
    while total:
        rest += client.socket.recv(1 << 18)
        packets = [rest[at : at + size] for at in range(0, len(rest) - size + 1, size)]
        rest = rest[len(packets) * size :]
        total -= len(packets)
        client.socket.sendall(b"".join(puback(int.from_bytes(p[-202:-200])) for p in packets))
    pipe.send("done")
    client.socket.close()


def answer(context: ssl.SSLContext, pipe: Connection) -> None:
    """Be the floor: a broker that counts bytes and answers with as many PUBACKs, routing nothing."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=PUBLISHERS)
    pipe.send(listener.getsockname()[1])
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    size = len(publish(f"fw/v1/d/{'a' * 26}/up/telemetry", PAYLOAD))
    held: dict[socket.socket, int] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                line: ssl.SSLSocket = context.wrap_socket(listener.accept()[0], server_side=True)
                line.recv(65536)
                line.sendall(CONNACK)
                held[line] = 0
                selector.register(line, selectors.EVENT_READ)
            elif isinstance(key.fileobj, ssl.SSLSocket):
                raw = key.fileobj.recv(65536)
                if not raw:
                    return
                count, held[key.fileobj] = divmod(held[key.fileobj] + len(raw), size)
                key.fileobj.sendall(b"\x40\x02\x00\x01" * count)


def publishers(call: Call, rounds: int) -> list[Publisher]:
    """Return connected devices."""
    out = []
    for number in range(PUBLISHERS):
        name = "a" * 24 + "".join("abcdefghij"[int(digit)] for digit in f"{number:02d}")
        client = call(name)
        client.enter(f"{name}-0123456789abcdef")
        out.append(Publisher(client, name, rounds))
    return out


@contextmanager
def beside(work: object, *arguments: object, **options: object) -> Iterator[Connection]:
    """Run ``work`` in a process of its own, with a pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=work, args=(*arguments, theirs), kwargs=options)  # type: ignore[arg-type]
    process.start()
    yield ours
    process.terminate()
    process.join()


def floor(folder: Path, rounds: int) -> float:
    """Return messages per second of the load generator alone."""
    pki = Pki(folder / "pki")
    crls = [pki.folder / f"{unit}.crl.pem" for unit in pki.authorities]
    context = server_context(pki.folder / "broker.pem", pki.folder / "broker.key.pem", pki.folder / "root.pem", crls)
    with beside(answer, context) as pipe:
        port = pipe.recv()
        devices = publishers(lambda name: RawClient(port, pki.badge(name).context), rounds)
        began = time.monotonic()
        flood(devices)
        return PUBLISHERS * WINDOW * rounds / (time.monotonic() - began)


def moved(starting: BrokerProcess, rounds: int, *, clean: bool, idle: Sequence[str] = ()) -> tuple[float, float]:
    """Return messages per second through a broker, and its processor time per message in microseconds.

    idle: names of devices that are connected meanwhile and say nothing.
    """
    total = PUBLISHERS * WINDOW * rounds
    with starting as broker:
        others = [_entered(broker, name) for name in idle]
        devices = publishers(broker.call, rounds)
        with beside(hear, broker.call, total, clean=clean) as pipe:
            pipe.recv()
            assert broker.process is not None
            process = psutil.Process(broker.process.pid)
            before, began = sum(process.cpu_times()[:2]), time.monotonic()
            flood(devices)
            pipe.recv()
            elapsed, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
        for client in others:
            client.socket.close()
    return total / elapsed, spent / total * 1e6


def queued(starting: BrokerProcess, rounds: int) -> tuple[float, float]:
    """Return the same while the one who is to hear is away: each message waits on disk, as while a server restarts."""
    total = PUBLISHERS * WINDOW * rounds
    with starting as broker:
        server = broker.call("server")
        server.enter("server-0123456789abcdef", clean=False)
        server.subscribe("fw/v1/d/+/up/#")
        server.send(DISCONNECT)
        server.socket.close()
        devices = publishers(broker.call, rounds)
        assert broker.process is not None
        process = psutil.Process(broker.process.pid)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        flood(devices)
        elapsed, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    return total / elapsed, spent / total * 1e6


def _entered(broker: BrokerProcess, name: str) -> RawClient:
    client = broker.call(name)
    client.enter(f"{name}-0123456789abcdef")
    return client


def main(rounds: int = 20) -> None:
    """Print one line per way."""
    with tempfile.TemporaryDirectory() as folder:
        base = floor(Path(folder) / "floor", rounds)
        print(f"load generator alone   {base:8.0f} msg/s ({NO_BAR})")
        for name, clean in (("clean session", True), ("kept, on disk", False)):
            rate, cost = moved(BrokerProcess(Path(folder) / name, UNLIMITED), rounds, clean=clean)
            print(f"{name:22} {rate:8.0f} msg/s  {cost:4.0f} us of the broker's processor each ({NO_BAR})")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
