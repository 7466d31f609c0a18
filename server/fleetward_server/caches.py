"""What was verified before, at the server: chains, keys and digital IDs.

Keyed by exact bytes and by the epochs that revocation and trust move, bounded, and filled only after success.
Source: protocol section 3.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from fleetward_schemas.certificates import Chain
from fleetward_schemas.identity import SignedIdentity
from fleetward_schemas.topics import DeviceId, Role, read_topic
from fleetward_server.turn import Speaker

T = TypeVar("T")
CACHE_ROWS = 50_000


class Lru(Generic[T]):
    """A bounded map of what was verified."""

    def __init__(self, most: int = CACHE_ROWS) -> None:
        """Keep at most ``most`` entries, dropping the longest unused."""
        self._most = most
        self._kept: OrderedDict[object, T] = OrderedDict()

    def get(self, key: object) -> T | None:
        """Return the entry, or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def put(self, key: object, value: T) -> T:
        """Keep and return ``value``."""
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value


class Caches:
    """What was verified before; see the module's rule."""

    def __init__(self) -> None:
        """Start empty."""
        self.chains: Lru[tuple[Chain, bool]] = Lru()
        self.signers: Lru[Speaker] = Lru()
        self.identities: Lru[tuple[SignedIdentity, DeviceId]] = Lru()


def strangers(windows: Iterable[tuple[str, str]], epochs: tuple[int, int], caches: Caches) -> set[DeviceId]:
    """Return the devices whose signers are not known, so that their certificates can be read at once."""
    found = set()
    for signer, topic in windows:
        principal = read_topic(topic).principal
        if principal is None or principal.device_id is None or principal.role is not Role.DEVICE:
            continue
        if (signer, principal.name, epochs) not in caches.signers:
            found.add(principal.device_id)
    return found
