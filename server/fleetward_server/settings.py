"""The tables of ``fleetward.toml``, and what holds where a key is left out; ``[mosip]`` and ``[releases]`` have theirs.

Source: S3 (time source), S6 (where keys live).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetward_schemas.identity import Environment

AUTHORITY_KEYS = ("device_ca", "factory_ca", "service_ca")
KEY_NAMES = ("root", *AUTHORITY_KEYS)


@dataclass(frozen=True, slots=True)
class ProviderTable:
    """Who runs this. name: legal name, the O of every certificate. id: MOSIP partner id."""

    name: str
    id: str
    environment: Environment
    profile: str = "demo"


@dataclass(frozen=True, slots=True)
class BrokerTable:
    """Where the broker listens. host: name or address that stands in its certificate; port 0: any free one.

    connects_per_s: new connections in any second, of the embedded broker.
    """

    host: str = "localhost"
    port: int = 8883
    bind: str = "127.0.0.1"
    connects_per_s: int = 1000


@dataclass(frozen=True, slots=True)
class TimeTable:
    """Where the server's own time comes from. radius_ms: bound of its error, needed when ``assumed``.

    require_nts: of chrony's sources, take the time of those alone that are proven by NTS.
    """

    source: str = "assumed"
    radius_ms: int = 250
    beacon_s: int = 30
    require_nts: bool = False


@dataclass(frozen=True, slots=True)
class EnrolTable:
    """policy: ``listed`` or ``open``. retry_after_s: when a pending device may ask again."""

    policy: str = "listed"
    retry_after_s: int = 60


@dataclass(frozen=True, slots=True)
class DevicesTable:
    """What devices are told. telemetry_s: seconds between reports; time_s: least between time questions."""

    telemetry_s: int = 30
    time_s: int = 600


@dataclass(frozen=True, slots=True)
class KeysTable:
    """URIs of the root's and the authorities' keys: ``file:`` relative to this file, or ``pkcs11:``.

    require_hsm: refuse those that are files; left out, the profile decides. former: keys that were followed by others,
    by the name of their certificate's file; they sign revocation lists and nothing else.
    """

    root: str = "file:pki/root.key.pem"
    device_ca: str = "file:pki/device-ca.key.pem"
    factory_ca: str = "file:pki/factory-ca.key.pem"
    service_ca: str = "file:pki/service-ca.key.pem"
    require_hsm: bool | None = None
    former: Mapping[str, str] = field(default_factory=dict, hash=False)

    def by_name(self) -> dict[str, str]:
        """Return the URIs of the keys in office, by their certificates' names: ``root``, ``device-ca`` ..."""
        return {name.replace("_", "-"): str(getattr(self, name)) for name in KEY_NAMES}


@dataclass(frozen=True, slots=True)
class RotationTable:
    """When the server orders new keys: so many days after a certificate began, spread over jitter_days; 0: never."""

    after_days: int = 20
    jitter_days: int = 4


@dataclass(frozen=True, slots=True)
class RetentionTable:
    """How long telemetry, and all other reports, are kept, in days; lists of acts on many as those. The audit stays."""

    telemetry_days: int = 90
    reports_days: int = 365


@dataclass(frozen=True, slots=True)
class StorageTable:
    """min_free_mb: with less room on the disk (MiB), nothing is taken from devices, so that they keep their reports."""

    min_free_mb: int = 200


@dataclass(frozen=True, slots=True)
class LimitsTable:
    """How much one device may report; beyond it a report is refused as ``too-often`` and comes again later.

    reports_burst: how many at once. mib_per_day: MiB on the wire.
    """

    reports_per_s: int = 50
    reports_burst: int = 2000
    reports_per_day: int = 100_000
    mib_per_day: int = 500
