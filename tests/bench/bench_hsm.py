"""Certificates and enrolments per second with the authority's key in a token (SoftHSM2), beside bare signing in it.

The baseline is the token's own RSA-2048 signature and nothing around it: what no certificate can do without.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.provision import Order, provision
from fleetward_sandbox.softhsm import make_token
from fleetward_schemas.jws import Alg, sign
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.init import Wish, make_provider
from tests.bench.bars import at_least
from tests.bench.bench_enrol import enrolments
from tests.device import TestDevice

COUNT = 200
ROUNDS = 3
BAR = 0.5


def main() -> None:
    """Print certificates per second, the ratio to bare signatures, and enrolments per second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "p"
        make_provider(folder, Wish(port=0, hsm=make_token(Path(name) / "hsm").uri), datetime.now(UTC))
        made = provision(folder, Order(COUNT, folder / "devices", alg=Alg.EDDSA))
        config, now = load(folder), datetime.now(UTC)
        issuer, public, subject = open_issuer(config, "device-ca"), make_key(Alg.EDDSA).public_key(), Subject("x", "x")
        bare, issued = 0.0, 0.0
        # In turns and the best of each: machines are shared.
        for _ in range(ROUNDS):
            bare = max(bare, rate(lambda: sign(issuer.key, b"x" * 400)))
            issued = max(issued, rate(lambda: profiles.issue(profiles.DEVICE, subject, public, issuer, start=now)))
        enrolled = enrolments(config, [TestDevice(one.folder) for one in made])
    print(
        f"token, RSA-2048: {bare:.0f} signatures/s bare, {issued:.0f} certificates/s; "
        f"ratio {issued / bare:.2f} ({at_least(issued / bare, BAR)})"
    )
    ratio = 2 * enrolled / bare
    print(
        f"enrolments, two certificates each: {enrolled:.0f}/s through the worker; "
        f"ratio a certificate {ratio:.2f} ({at_least(ratio, BAR)})"
    )


def rate(act: Callable[[], object]) -> float:
    """Return how often per second."""
    began = time.perf_counter()
    for _ in range(2 * COUNT):
        act()
    return 2 * COUNT / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
