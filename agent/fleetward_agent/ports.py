"""What a device is attached to: its keys, its scanner, its host. Each is a seam with one real class and fakes in tests.

No port here can capture: a scanner says who it is and how it is (C9, MOSIP's discovery and info, nothing else).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fleetward_schemas.identity import DigitalId
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.jws import Alg, PrivateKey


class KeyStore(Protocol):
    """One device's private keys by name; they never leave it but as objects that sign. Raises ``KeyUnavailable``."""

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """Make a key and keep it durably; the same name again gives the same key."""
        ...

    def open(self, name: str) -> PrivateKey:
        """Open a key made before."""
        ...

    def destroy(self, name: str) -> None:
        """Destroy a key for ever, and look that it is gone; no key of that name is no mistake."""
        ...

    def names(self) -> frozenset[str]:
        """Return the name of every key here, whoever remembers it; half-made ones too."""
        ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """How a scanner is. metrics: names of ``telemetry.METRICS``, what does not fit there is left out."""

    status: DeviceStatus
    metrics: Mapping[str, float] = field(default_factory=dict)
    firmware: str = "unknown"
    service_version: str = "unknown"


class Scanner(Protocol):
    """One scanner."""

    def present(self) -> tuple[DigitalId, ...]:
        """Return the identities of the scanners attached now; ``dateTime`` means nothing here."""
        ...

    def read(self) -> Sighting:
        """Return how it is."""
        ...


class Gauge(Protocol):
    """The host's own numbers."""

    def read(self) -> Mapping[str, float]:
        """Return metrics of the host."""
        ...
