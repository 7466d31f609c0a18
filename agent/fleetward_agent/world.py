"""The outside world as one value: the boot clock, randomness, TLS contexts, and where the log goes.

CLOCK_BOOTTIME counts through suspend and CLOCK_MONOTONIC does not, so that a suspend shows between them; the operating
system's time of day is never read (S3). Keys are shown to OpenSSL
through an anonymous file in memory, so a key from any store is never copied to a disk.
"""

import os
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.instant import SEED_BYTES, Instant
from fleetward_agent.origin import Credential
from fleetward_agent.pool import Pool, Threads
from fleetward_broker.durable import PRIVATE_MODE
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import key_pem
from fleetward_broker.tls import CredentialsUnusable, chain_pem, client_context

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NS_PER_US = 1000

Roots = tuple[x509.Certificate, ...]
Log = Callable[[str, Mapping[str, str | int]], None]


def _awake() -> int:
    """Tell of no suspend."""
    return 0


def _silent(_: str, __: Mapping[str, str | int]) -> None:
    """Keep no log."""


@dataclass(frozen=True, slots=True)
class World:
    """See the module. context: (roots, credential, check_time) -> what a line is dialled with.

    pool: makes whoever does slow work, once there is some.
    """

    boot_us: Callable[[], int]
    boot_id: str
    random: Callable[[int], bytes]
    context: Callable[[Roots, Credential, bool], ssl.SSLContext]
    log: Log = _silent
    slept_us: Callable[[], int] = _awake
    pool: Callable[[], Pool] = Threads

    @classmethod
    def real(cls, log: Log = _silent) -> "World":
        """Return this machine's world."""
        return cls(boot_us, BOOT_ID.read_text().strip(), os.urandom, tls_context, log, slept_us)

    def instant(self) -> Instant:
        """Read the clock once."""
        return Instant(self.boot_us(), self.random(SEED_BYTES), self.slept_us())


def boot_us() -> int:
    """Return CLOCK_BOOTTIME in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_US


def slept_us() -> int:
    """Return how long this host was suspended since its boot: the most of three readings, each of which falls short."""
    return max(boot_us() - time.clock_gettime_ns(time.CLOCK_MONOTONIC) // NS_PER_US for _ in range(3))


def tls_context(roots: Roots, shown: Credential, check_time: bool) -> ssl.SSLContext:
    """Return the context of a line; see ``fleetward_broker.tls.client_context``.

    Raises:
        KeyUnavailable: the key does not fit its certificate.
    """
    pem = b"".join(root.public_bytes(Encoding.PEM) for root in roots)
    with ExitStack() as files:
        certificate = _in_memory(files, "chain", chain_pem(shown.chain))
        key = _in_memory(files, "key", key_pem(shown.key))
        try:
            return client_context(pem, certificate, key, check_time=check_time)
        except CredentialsUnusable as error:
            raise KeyUnavailable(f"what TLS shows: {error}") from None


def _in_memory(files: ExitStack, name: str, raw: bytes) -> Path:
    file = files.enter_context(os.fdopen(os.memfd_create(name), "wb"))
    os.fchmod(file.fileno(), PRIVATE_MODE)
    file.write(raw)
    file.flush()
    return Path(f"/proc/self/fd/{file.fileno()}")
