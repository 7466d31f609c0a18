"""Where a process may die: every commit, fsync, rename, publish, key made and key destroyed, counted as it comes.

``install`` wraps them in a child process; the child dies by ``os._exit`` before or after the one it was told.
"""

import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fleetward_agent.keys as agent_keys
import fleetward_server.authority as server_authority

T = TypeVar("T")
DEAD = 77
OUR = ("fleetward_agent", "fleetward_server", "fleetward_broker", "fleetward_schemas")


@dataclass
class Points:
    """Counts. kill: (number, "before" or "after"), None for a dry run. told: hears the label of the fatal point.

    apart: points after which something was said to the other end, or heard of it, before the next one came.
    """

    kill: tuple[int, str] | None = None
    told: Callable[[str], None] = lambda _: None
    labels: list[str] = field(default_factory=list)
    apart: set[int] = field(default_factory=set)

    def said(self) -> None:
        """Tell what comes from the point before: the other end knows more by now."""
        self.apart.add(len(self.labels) - 1)

    @property
    def moments(self) -> list[tuple[int, str, str]]:
        """Every moment to die at: number, when, label.

        Before each point; and after it, where the next point's ``before`` would be another moment for the other end.
        """
        numbered = list(enumerate(self.labels))
        before = [(number, "before", label) for number, label in numbered]
        return before + [(number, "after", label) for number, label in numbered if number in self.apart]

    def at(self, kind: str, call: Callable[[], T]) -> T:
        """Count one point around ``call``."""
        self.labels.append(f"{kind} {_place()}")
        number = len(self.labels) - 1
        self._die(number, "before")
        result = call()
        self._die(number, "after")
        return result

    def _die(self, number: int, when: str) -> None:
        if self.kill == (number, when):
            self.told(self.labels[number])
            os._exit(DEAD)


def _place() -> str:
    """Return module and function of ours that came here."""
    frame = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(OUR):
            return f"{module}.{frame.f_code.co_qualname}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def install(points: Points) -> None:
    """Wrap what makes things last; for a child process, which never takes it back."""
    fsync, replace, rename, connect = os.fsync, os.replace, os.rename, sqlite3.connect

    class Counted(sqlite3.Connection):
        """Tells of commits, however they are said."""

        def commit(self) -> None:
            points.at("commit", super().commit) if self.in_transaction else super().commit()

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
            if sql == "COMMIT":
                return points.at("commit", lambda: super(Counted, self).execute(sql, *parameters))
            return super().execute(sql, *parameters)

    os.fsync = lambda fd: points.at("fsync", lambda: fsync(fd))
    os.replace = lambda *words, **more: points.at("rename", lambda: replace(*words, **more))
    os.rename = lambda *words, **more: points.at("rename", lambda: rename(*words, **more))
    sqlite3.connect = lambda *words, **more: connect(*words, **more, factory=Counted)
    _wrap_keys(points)


def _wrap_keys(points: Points) -> None:
    destroy = agent_keys.FileKeys.destroy
    for module in (agent_keys, server_authority):
        make = module.make_key
        module.make_key = lambda alg, make=make: points.at("key-made", lambda: make(alg))  # type: ignore[attr-defined]

    def destroyed(self: agent_keys.FileKeys, name: str) -> None:
        points.at("key-destroyed", lambda: destroy(self, name))

    agent_keys.FileKeys.destroy = destroyed  # type: ignore[method-assign]


def key_files(folder: Path) -> set[str]:
    """Return the names of the key files of a device."""
    return {path.name for path in folder.glob("keys/*.pem")}
