"""The tables of agent.toml that are the same for every device of a host: names, types, and what is left out.

``config`` reads them; the meaning of each key stands in agent/README.md.
"""

from dataclasses import dataclass

from fleetward_schemas.clock import DRIFT_PPM
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import Alg


@dataclass(frozen=True, slots=True)
class ServerTable:
    """Where to connect. name: what the broker's certificate must say; empty: the host."""

    host: str = ""
    port: int = 8883
    name: str = ""
    env: Environment = Environment.DEVELOPER
    keep_alive_s: int = 20


@dataclass(frozen=True, slots=True)
class IdentityTable:
    """Who the device is, and whom it trusts.

    mosip_anchors: by which encryption certificates are believed; it need not be there.
    """

    file: str = "identity.json"
    provider_root: str = "provider-root.pem"
    mosip_anchors: str = "mosip-anchors.pem"


@dataclass(frozen=True, slots=True)
class KeysTable:
    """Keys by URI, chains as PEM (leaf first, root left out); ``ftm`` counts at L1 alone.

    device: the token that device keys are made in; empty: files below ``[state] dir``. transport: ``file``, or ``tpm``.
    """

    ftm: str = "file:ftm.key.pem"
    ftm_chain: str = "ftm.chain.pem"
    factory: str = "file:factory.key.pem"
    factory_chain: str = "factory.chain.pem"
    device: str = ""
    transport: str = "file"
    device_alg: Alg = Alg.RS256
    transport_alg: Alg = Alg.EDDSA


@dataclass(frozen=True, slots=True)
class StateTable:
    """Where the agent writes."""

    dir: str = "state"


@dataclass(frozen=True, slots=True)
class LimitsTable:
    """How much the outbox may hold, and how many days telemetry may wait in it."""

    outbox_rows: int = 50_000
    outbox_bytes: int = 64 * 1024 * 1024
    telemetry_days: int = 90


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """What a metered link may carry; 0: nobody counts."""

    bytes_per_day: int = 0


@dataclass(frozen=True, slots=True)
class ClockTable:
    """need_ms: how far off the time may be for the host's work. drift_ppm: how far its oscillator may run off."""

    need_ms: int = 1000
    drift_ppm: int = DRIFT_PPM


@dataclass(frozen=True, slots=True)
class LogTable:
    """How the log is written, to stderr."""

    level: str = "info"
    format: str = "text"
