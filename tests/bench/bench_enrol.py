"""Enrolments per second through the server's worker (all checks, store, synchronous=FULL), beside its bare mathematics.

The baseline does what no enrolment can do without: two requests read and proven, two certificates signed.
"""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.enrol import Enrol
from fleetward_schemas.jws import Alg
from fleetward_schemas.strict import show_der
from fleetward_server.authority import Authority
from fleetward_server.clock import sureness
from fleetward_server.config import Config, load
from fleetward_server.enrol import csr_keys
from fleetward_server.generations import open_issuer, own_anchors
from fleetward_server.init import Wish, make_provider
from fleetward_server.policy import policy_of
from fleetward_server.store import open_store
from fleetward_server.worker import Worker
from tests.bench.bars import NO_BAR
from tests.device import TestDevice
from tests.server.test_worker import Bench, FakeLink

COUNT = 200
BATCH = 50


def main() -> None:
    """Print enrolments per second and the ratio to the bare mathematics."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "p"
        make_provider(folder, Wish(port=0), datetime.now(UTC))
        made = provision(folder, Order(COUNT, folder / "devices", alg=Alg.EDDSA))
        config = load(folder)
        devices = [TestDevice(one.folder) for one in made]
        ours, bare = enrolments(config, devices), mathematics(config)
    print(f"enrolments: {ours:.0f}/s through the worker; bare: {bare:.0f}/s; ratio {ours / bare:.2f} ({NO_BAR})")


def enrolments(config: Config, devices: list[TestDevice]) -> float:
    """Walk every device through hello and enrol, ``BATCH`` to a commit; return enrolments per second."""
    now, link = datetime.now(UTC), FakeLink()
    with open_store(config.store_path) as store:
        worker = Worker(
            store, link, Authority(config), policy_of(config, sureness(config.time)), own_anchors(config), now
        )
        bench = Bench(worker, link, store, devices[0], devices[0], now)
        spent = 0.0
        for start in range(0, len(devices), BATCH):
            some = devices[start : start + BATCH]
            hellos = [one.hello(bench.now) for one in some]
            began = time.perf_counter()
            answers = bench.hear(*hellos)
            spent += time.perf_counter() - began
            nonces = [str(answer["body"]["serverNonce"]) for _, answer in answers]  # type: ignore[index]
            enrols = [one.enrol(bench.now, nonce) for one, nonce in zip(some, nonces, strict=True)]
            began = time.perf_counter()
            done = bench.hear(*enrols)
            spent += time.perf_counter() - began
            if [answer["body"]["status"] for _, answer in done] != ["registered"] * len(some):  # type: ignore[index]
                raise SystemExit("a device was not registered; the figure would mean nothing")
    return len(devices) / spent


def mathematics(config: Config) -> float:
    """Return how many pairs of requests could be read and certified per second with nothing around them."""
    issuer, now = open_issuer(config, "device-ca"), datetime.now(UTC)
    requests = [
        show_der(profiles.request("any", make_key(Alg.EDDSA)).public_bytes(Encoding.DER)) for _ in range(2 * COUNT)
    ]
    began = time.perf_counter()
    for one, two in zip(requests[::2], requests[1::2], strict=True):
        for key in csr_keys(Enrol(serverNonce="A" * 43, deviceCsr=one, transportCsr=two)):
            profiles.issue(profiles.DEVICE, Subject("sign-x", "x"), key, issuer, start=now)
    return COUNT / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
