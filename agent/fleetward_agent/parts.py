"""What a device is made of beside the factory's work: its options, and the things it is attached to."""

from dataclasses import dataclass

from fleetward_agent.hands import Hands
from fleetward_agent.outbox import Outbox
from fleetward_agent.ports import Gauge, KeyStore, Scanner
from fleetward_agent.state import StateFile
from fleetward_schemas.clock import DRIFT_PPM
from fleetward_schemas.jws import Alg


@dataclass(frozen=True, slots=True)
class Options:
    """Where to connect, and with which keys. keep_alive_s: at most 60.

    need_ms: how sure of the time the host's work must be. health_s: how long a new version has to prove well.
    drift_ppm: how far its oscillator may run off.
    bytes_per_day: what a metered link may carry; 0 where nobody counts.
    """

    host: str = "localhost"
    port: int = 8883
    server_name: str = "localhost"
    device_alg: Alg = Alg.RS256
    transport_alg: Alg = Alg.EDDSA
    keep_alive_s: int = 20
    need_ms: int = 1000
    health_s: int = 600
    drift_ppm: int = DRIFT_PPM
    bytes_per_day: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a device is attached to. hands: who does an upgrade's work; None: nothing can be installed."""

    keys: KeyStore
    scanner: Scanner
    state: StateFile
    outbox: Outbox
    gauge: Gauge | None = None
    hands: Hands | None = None
