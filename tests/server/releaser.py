"""Releasing in a test: every step as an operator takes it, beside the keys and at the provider's host."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_server.config import load
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import signing
from fleetward_server.releases.files import in_folder
from fleetward_server.releases.keys import OfflineKeys, open_offline
from fleetward_server.releases.operating import NewTarget, Releaser
from fleetward_server.releases.publishing import Published
from fleetward_server.releases.request import Exchange
from tests.server.tufclient import Client

SECRET = b"correct horse battery"
SLAP = "Acme/Slap-4"


@dataclass
class Maker:
    """A maker of devices: a host that serves ``provider``, and a machine with the offline keys, in ``folder``."""

    folder: Path
    provider: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.operator = Releaser(self.provider, "test", lambda: self.now)
        self.now = datetime.now(UTC)
        self.config = load(self.provider)

    @property
    def keys_folder(self) -> Path:
        return self.folder / "K"

    @property
    def keys(self) -> OfflineKeys:
        return open_offline(self.keys_folder, SECRET)

    @property
    def exchange(self) -> Exchange:
        return self.operator.exchange(None)

    def file(self, content: bytes = b"firmware", name: str = "fw.bin") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def ask(self, counter: int = 7, *, content: bytes = b"firmware", **changes: object) -> str:
        said = {"name": "firmware", "version": f"1.{counter}", "models": (SLAP,), **changes}
        new = NewTarget(self.file(content), counter=counter, **said)  # type: ignore[arg-type]
        return self.operator.ask(new, self.exchange, "").path

    def sign(self, exchange: Exchange | None = None) -> tuple[str, ...]:
        there = exchange or self.exchange
        return signing.perform(self.keys, there, signing.prepare(self.keys, there, self.now), self.now)

    def publish(self, exchange: Exchange | None = None) -> Published:
        return self.operator.publish(exchange or self.exchange, "a test")

    def release(self, counter: int = 7, **changes: object) -> str:
        path = self.ask(counter, **changes)
        self.sign()
        self.publish()
        return path

    def client(self, name: str = "client") -> Client:
        folder = self.provider / "releases" / "metadata"
        return Client(self.folder / name, in_folder(folder), (folder / "1.root.json").read_bytes())


def refused(kind: Kind, act: Callable[[], object], *words: str) -> None:
    """An operator is told no, with these words."""
    with pytest.raises(OperatorProblem) as problem:
        act()
    assert problem.value.kind is kind
    for word in words:
        assert word in problem.value.message
