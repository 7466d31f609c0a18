"""Many agents of one new model within ten seconds: all registered, nobody refused, beside the CA's bare signing.

Real agents over real TLS in one process, broker and server in two others, on the same cores; every state folder is
fsynced. The authorities' keys are in a token (SoftHSM2); keys of chips and factories are made beforehand.
``FLEETWARD_AGENTS`` sets another number.
"""

import os
import tempfile
import time
from pathlib import Path

from fleetward_sandbox.fleet import Door, Fleet
from fleetward_sandbox.softhsm import make_token
from fleetward_schemas.enrol import State
from fleetward_schemas.jws import Alg, sign
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from tests.bench.bars import exactly
from tests.live.house import House

COUNT = int(os.environ.get("FLEETWARD_AGENTS", "2000"))
WITHIN_S = 10.0
GIVE_UP_S = 600.0
SIGNED = 300


def main() -> None:
    """Print how long it took until the last was registered, and what the CA alone would have taken."""
    with tempfile.TemporaryDirectory() as name:
        token = make_token(Path(name) / "hsm")
        with House(Path(name), telemetry_s=300, hsm=token.uri) as house:
            stampede(house)


def stampede(house: House) -> None:
    """Let them come, and print how it went."""
    made = house.provision(COUNT, alg=Alg.EDDSA, model="Brand-New-2")
    fleet = Fleet([], Door("localhost", house.port), device_alg=Alg.EDDSA)
    began, added = time.monotonic(), 0
    while registered(house) < COUNT:
        while added < COUNT and time.monotonic() - began > added * WITHIN_S / COUNT:
            fleet.add(made[added].folder)
            added += 1
        for _ in range(10):
            fleet.turn(0.05)
        if time.monotonic() - began > GIVE_UP_S:
            raise SystemExit(f"{registered(house)} of {COUNT} registered; the figure would mean nothing")
    took = time.monotonic() - began
    refused, rate = house.store.counts().refusals, bare(house)
    fleet.close()
    print(
        f"{COUNT} agents of a new model arriving within {WITHIN_S:.0f} s: all registered after {took:.1f} s "
        f"({COUNT / took:.0f}/s), refused: {refused or 'none'} ({exactly(len(refused), 0)}); "
        f"the token's bare signatures for {2 * COUNT} certificates: {2 * COUNT / rate:.1f} s ({rate:.0f}/s)"
    )


def registered(house: House) -> int:
    """Return how many are registered."""
    return house.store.counts().states.get(State.REGISTERED, 0)


def bare(house: House) -> float:
    """Return signatures per second of the device CA's key in its token, with nothing around them."""
    issuer = open_issuer(load(house.folder), "device-ca")
    began = time.perf_counter()
    for _ in range(SIGNED):
        sign(issuer.key, b"x" * 400)
    return SIGNED / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
