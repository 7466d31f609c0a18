"""Bytes on the line for each reading, by how many share a signature: topic and envelope, digital ID of an L1."""

from datetime import UTC, datetime

from fleetward_broker.signers import make_key
from fleetward_schemas.envelope import Draft, Seal, seal
from fleetward_schemas.ids import next_id
from fleetward_schemas.jws import Alg
from fleetward_schemas.moment import show
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_schemas.topics import up
from tests.bench.bars import NO_BAR
from tests.world import Provider

METRICS = {
    "hostLoad": 0.42,
    "hostDiskFreeBytes": 123_456_789_012,
    "hostMemoryFreeBytes": 1_234_567_890,
    "temperatureC": 31.52,
    "uptimeS": 123_456,
    "outboxDepth": 3,
    "outboxDropped": 0,
    "reconnects": 4,
    "clockWidthMs": 311,
    "scannerReady": 1,
}


def main() -> None:
    """Print the table, the one who signs alone beside those who share."""
    now, origin = datetime.now(UTC), Provider().origin()
    reading = Reading(observedAt=show(now), uncertaintyMs=156, metrics=METRICS)
    topic, digital_id = up(origin.device_id, "telemetry"), origin.first_identity(now)
    for alg in (Alg.RS256, Alg.EDDSA):
        with_seal = Seal.by_thumbprint(make_key(alg), "A" * 43)
        sizes = {}
        for shared in (1, 2, 5, 20, 80):
            made = Draft(topic, next_id(now, None, bytes(10)), 1, digital_id, Telemetry(readings=[reading] * shared))
            sizes[shared] = (len(topic) + len(seal(made, with_seal, now))) / shared
        told = ", ".join(f"{shared}: {size:.0f}" for shared, size in sizes.items())
        each = f"20 cost {sizes[20] / sizes[1]:.2f} each ({NO_BAR})"
        print(f"bytes per reading ({alg}), readings under one signature: {told}; {each}")


if __name__ == "__main__":
    main()
