"""The maker of the demo: firmware signed with keys that no server holds, in a folder of their own, and pushed.

Versions, with their counters: 1.0.0 (1), 1.1.0 (2), and 1.2.0 (3), which fails its health check.
"""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from fleetward_sandbox.installer import NAME
from fleetward_schemas.topics import DeviceId
from fleetward_server.assigning import UpgradeWish
from fleetward_server.config import load
from fleetward_server.releases import signing
from fleetward_server.releases.init import Wish
from fleetward_server.releases.keys import open_offline
from fleetward_server.releases.operating import NewTarget, Releaser
from fleetward_server.releases.shelf import Target, open_shelf
from fleetward_server.upgrading import UpgradeOperator

OLD, NEW, ILL = ("1.0.0", 1), ("1.1.0", 2), ("1.2.0", 3)
IMAGE_BYTES = 200_000


class Maker:
    """A release repository of a provider, and the offline keys it begins with."""

    def __init__(self, provider: Path, folder: Path) -> None:
        """Make both. folder: where keys and images go."""
        self._provider, self._folder = provider, folder
        self._keys, self._secret = folder / "keys", secrets.token_hex(16).encode()
        folder.mkdir()
        with Releaser(provider, "demo") as operator:
            operator.make_repository(Wish(self._keys, self._secret))

    def release(self, *versions: tuple[str, int], words: str = "") -> list[Target]:
        """Ask for releases, sign them beside the keys, publish them. words: what the packages have go wrong."""
        with Releaser(self._provider, "demo") as operator:
            exchange = operator.exchange(None)
            asked = [operator.ask(self._new(*one, words), exchange, "demo").path for one in versions]
            keys, now = open_offline(self._keys, self._secret), datetime.now(UTC)
            signing.perform(keys, exchange, signing.prepare(keys, exchange, now), now)
            operator.publish(exchange, "demo")
        shelf = open_shelf(load(self._provider))
        return [shelf.targets[path] for path in asked]

    def assign(self, target: Target, devices: Iterable[str]) -> None:
        """Have devices run a target."""
        with UpgradeOperator(self._provider, "demo") as operator:
            for one in devices:
                operator.assign(DeviceId(one), UpgradeWish((target.path,)), "demo")

    def _new(self, version: str, counter: int, words: str) -> NewTarget:
        file = self._folder / f"{NAME}-{version}.bin"
        file.write_bytes(f"{version}\n{words}\n".encode() + secrets.token_bytes(IMAGE_BYTES))
        return NewTarget(file, NAME, version, counter)
