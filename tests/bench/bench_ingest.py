"""Reports verified and stored per second by one worker, beside a bare paho subscriber that only verifies RS256.

Both drain the same envelopes of 100 devices from the same broker's queue, in alternating runs. The baseline holds
every key already parsed and checks nothing but the signature; ours makes every check, stores with synchronous=FULL and
sends signed receipts, and is counted from its second batch on, when it too has heard every device. On a machine that
others use, the clock also counts their time: the ratio of processor time counts ours alone, but no wait for the disk.
"""

import base64
import gc
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from fleetward_broker.line import Arrived, Connected, Delivered, Dial
from fleetward_broker.link import SelectorLink
from fleetward_broker.tls import client_context
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.jws import Alg
from fleetward_server.authority import Authority
from fleetward_server.brokers import RUNNERS
from fleetward_server.clock import sureness
from fleetward_server.config import Config, load
from fleetward_server.generations import own_anchors
from fleetward_server.init import Wish, make_provider
from fleetward_server.outgoing import Outgoing
from fleetward_server.parts import Part, spawn
from fleetward_server.policy import policy_of
from fleetward_server.run import Server
from fleetward_server.store import Store, open_store
from fleetward_server.worker import Worker
from tests.bench.bars import at_least
from tests.device import TestDevice
from tests.server.test_worker import Bench, FakeLink

DEVICES = 100
REPORTS = 6000
RUNS = 5
BAR = 0.7
IN_FLIGHT = 200
Message = tuple[str, bytes]


@dataclass(frozen=True)
class Rates:
    """Messages per second of the clock, and of this process's time on a processor."""

    clock: float
    processor: float


class Watch:
    """Both clocks, from the moment this is made."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def rates(self, messages: int) -> Rates:
        """Return what ``messages`` since then come to."""
        return Rates(messages / (time.perf_counter() - self._clock), messages / (time.process_time() - self._processor))


def main() -> None:
    """Print both rates and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "p"
        make_provider(folder, Wish(port=0), datetime.now(UTC))
        made = provision(folder, Order(DEVICES, folder / "devices", alg=Alg.EDDSA))
        devices = [TestDevice(one.folder, alg=Alg.RS256) for one in made]
        enrol_all(load(folder), devices)
        broker, port = start_broker(folder)
        try:
            compare(folder, devices, port)
        finally:
            broker.terminate()
            broker.wait()


def compare(folder: Path, devices: list[TestDevice], port: int) -> None:
    """Give both the same envelopes, and let each drain its queue, in turn first."""
    config = load(folder)
    bare: list[Rates] = []
    ours: list[Rates] = []
    with open_store(config.store_path) as store:
        subscriber = Bare(folder, devices, port)
        server = Server(config, store, port)
        connect(server)
        server.close()
        gc.freeze()  # as the server does at its start; the baseline runs under it too
        for run in range(RUNS):
            fill(folder, devices, port)
            drains = [lambda: bare.append(subscriber.drain()), lambda: ours.append(drain(config, store, port))]
            for each in drains if run % 2 else reversed(drains):
                each()
            print(f"  bare paho + RS256 {told(bare[-1])}   verified and stored {told(ours[-1])}", flush=True)
    by_clock = statistics.median(o.clock / b.clock for o, b in zip(ours, bare, strict=True))
    by_processor = statistics.median(o.processor / b.processor for o, b in zip(ours, bare, strict=True))
    rates = [statistics.median(one.clock for one in many) for many in (ours, bare)]
    print(
        f"reports: {rates[0]:.0f}/s verified and stored, bare {rates[1]:.0f}/s, "
        f"median ratio {by_clock:.2f} by the clock ({at_least(by_clock, BAR)}), "
        f"{by_processor:.2f} of processor time ({at_least(by_processor, BAR)})"
    )


def told(rates: Rates) -> str:
    """Show both."""
    return f"{rates.clock:6.0f}/s ({1e6 / rates.processor:4.0f} us of a processor each)"


def enrol_all(config: Config, devices: list[TestDevice]) -> None:
    """Enrol without a network; the store then knows every key."""
    link, now = FakeLink(), datetime.now(UTC)
    with open_store(config.store_path) as store:
        worker = Worker(
            store, link, Authority(config), policy_of(config, sureness(config.time)), own_anchors(config), now
        )
        bench = Bench(worker, link, store, devices[0], devices[0], now, step_s=0.001)
        for device in devices:
            bench.enrolled(device)


def start_broker(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the embedded broker on the provider's certificates."""
    config = load(folder)
    started: list[Part] = []

    def start(command: list[str], home: Path) -> Part:
        started.append(spawn("broker", command, folder / "broker.log", home))
        return started[0]

    port = RUNNERS["embedded"].start(config, 0, start)
    return started[0].process, port


def envelopes(devices: list[TestDevice]) -> list[Message]:
    """Return fresh reports of all devices, in turn."""
    now = datetime.now(UTC)
    return [devices[i % len(devices)].telemetry(now, uptimeS=float(i)) for i in range(REPORTS)]


def fill(folder: Path, devices: list[TestDevice], port: int) -> None:
    """Put the reports into the server's waiting session."""
    link = SelectorLink(time.monotonic)
    line = link.open(lambda: dial(folder, port, f"server-{secrets.token_hex(16)}", clean=True))
    waiting, messages = 0, envelopes(devices)
    while not any(isinstance(event, Connected) for event in link.poll(0.5)):
        pass
    while messages or waiting:
        while messages and waiting < IN_FLIGHT:
            topic, raw = messages.pop(0)
            waiting += link.publish(line, topic, raw) is not None
        waiting -= sum(isinstance(event, Delivered) for event in link.poll(0.2))
    link.close(line)
    link.poll(0.5)
    link.shutdown()


def dial(folder: Path, port: int, client_id: str, *, clean: bool) -> Dial:
    """Return a dial of the server principal."""
    pki = folder / "pki"
    context = client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem")
    subscriptions = () if clean else (("fw/v1/d/+/up/+", 1),)
    return Dial("localhost", port, "localhost", client_id, context, clean, subscriptions)


class Bare:
    """A paho subscriber that verifies RS256 with cached keys, and nothing else."""

    def __init__(self, folder: Path, devices: list[TestDevice], port: int) -> None:
        """Make its waiting session."""
        self._keys = {device.id: device.device_key.public_key() for device in devices}
        self._seen = 0
        self._watch: Watch | None = None
        client_id = f"server-{secrets.token_hex(16)}"
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False)
        self._client.tls_set_context(dial(folder, port, client_id, clean=False).context)
        self._client.on_message = self._on_message
        subscribed: list[bool] = []
        self._client.on_subscribe = lambda *_: subscribed.append(True)
        self._client.on_connect = lambda *_: self._client.subscribe("fw/v1/d/+/up/+", 1)
        self._client.connect("localhost", port)
        self._loop(lambda: bool(subscribed))
        self._client.on_connect = None
        self._client.disconnect()

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        self._watch = self._watch or Watch()
        signed, _, signature = message.payload.rpartition(b".")
        raw = base64.urlsafe_b64decode(signature + b"==")
        self._keys[message.topic.split("/")[3]].verify(raw, signed, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[call-arg,arg-type]
        self._seen += 1

    def drain(self) -> Rates:
        """Drain the queue; return messages per second."""
        self._seen, self._watch = 0, None
        self._client.reconnect()
        self._loop(lambda: self._seen >= REPORTS)
        rates = (self._watch or Watch()).rates(REPORTS)
        self._loop(lambda: not self._client.want_write())
        self._client.disconnect()
        return rates

    def _loop(self, until: Callable[[], bool]) -> None:
        while not until():
            self._client.loop(0.2)


def connect(server: Server) -> None:
    """Let the server's session come to be."""
    ready: list[bool] = []
    server.on_ready = lambda: ready.append(True)
    server._line.open()
    while not ready:
        server.turn(0.1)


def stored(store: Store) -> int:
    """Return how many reports the store holds."""
    return sum(1 for _ in store.stream_reports())


def drain(config: Config, store: Store, port: int) -> Rates:
    """Let a whole server drain its queue; return reports per second, stored."""
    server = Server(config, store, port)
    before, taken = stored(store), 0
    batch = server._worker.batch

    def counted(arrived: list[Arrived], now: datetime, monotonic: float) -> Outgoing:
        nonlocal taken
        taken += len(arrived)
        return batch(arrived, now, monotonic)

    server._worker.batch = counted  # type: ignore[method-assign]
    server._line.open()
    while not taken:
        server.turn(0.2)
    first, watch = taken, Watch()
    while taken < REPORTS:
        server.turn(0.2)
    rates = watch.rates(REPORTS - first)
    server.close()
    if stored(store) - before != REPORTS:
        raise SystemExit(f"stored {stored(store) - before} of {REPORTS}; the figure would mean nothing")
    return rates


if __name__ == "__main__":
    main()
