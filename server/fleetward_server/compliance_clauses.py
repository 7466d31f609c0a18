"""The clauses of the specification as data: where each is implemented and which tests show it.

The table in README.md and the report for auditors are both made from ``compliance.toml``, which goes with the package.
Source: the specification of management server and client, clauses S1-S8, C1-C10, E1, E2, K1.
"""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from fleetward_schemas.shapes import UpBody

FILE = "compliance.toml"
ROOMS = ("schemas", "broker", "agent", "server")
IDS = (
    *("S1", "S2", "S3", "S4a", "S4b", "S5", "S6", "S7", "S8"),
    *("C1", "C2 i", "C2 ii", "C2 iii", "C2 iv", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10"),
    *("E1", "E2", "K1"),
)
Module = Annotated[str, Meta(pattern=r"\A(\*|schemas|broker|agent|server)/[a-z0-9_*]+\Z")]
Test = Annotated[str, Meta(pattern=r"\Atests/[a-z0-9_/]+\.py(::test_[a-z0-9_]+)?\Z")]


class Clause(UpBody, frozen=True):
    """One clause, or one layer of the proof. missing: what is not there yet; empty when it is whole."""

    id: str
    asks: str
    implemented: tuple[Module, ...]
    tests: tuple[Test, ...]
    missing: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files its tests are in, each once."""
        return tuple(dict.fromkeys(test.partition("::")[0] for test in self.tests))

    @property
    def anchor(self) -> str:
        """Its name in a link."""
        return self.id.lower().replace(" ", "-")


class Clauses(UpBody, frozen=True):
    """All of it."""

    clause: tuple[Clause, ...]
    layer: tuple[Clause, ...]


@cache
def clauses() -> Clauses:
    """Return clauses and layers as the package holds them."""
    return Clauses.read(tomllib.loads(files("fleetward_server").joinpath(FILE).read_text("utf-8")))


def sources(house: Path, module: str) -> list[Path]:
    """Return the files and packages below a checkout that a module's short name means."""
    room, _, name = module.partition("/")
    rooms = ROOMS if room == "*" else (room,)
    folders = [house / one / f"fleetward_{one}" for one in rooms]
    return [
        path for folder in folders for pattern in (f"{name}.py", f"{name}/__init__.py") for path in folder.glob(pattern)
    ]
