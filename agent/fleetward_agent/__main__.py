"""``fleetward-agent run | status | doctor``. Exit codes stand in agent/README.md.

argparse and nothing else: start-up time and memory are the device's.
"""

import argparse
import fcntl
import json
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fleetward_agent import VERSION
from fleetward_agent.assembly import assemble
from fleetward_agent.config import FILE, Config, ConfigProblem, from_folder, load
from fleetward_agent.doctor import examine
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateProblem
from fleetward_agent.status import NotStarted, status_of
from fleetward_broker.link import SelectorLink
from fleetward_broker.logs import FORMATS, LEVELS, start_logging
from fleetward_broker.signers import KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSE_WITHIN_S = 6.0
POLL_S = 0.5
WARNINGS = frozenset(
    {"refused", "storage-failed", "effect-failed", "key-unavailable", "report-refused", "state-from-backup", "alert"}
)
QUIET = frozenset({"took", "line"})


class Exit(IntEnum):
    """What the program ends with."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    VERIFICATION = 7
    TIMEOUT = 8
    INTERRUPTED = 130


class Busy(Exception):  # noqa: N818 - says what is the matter
    """Another agent works on this state."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.command(_config(asked), asked))
    except (ConfigProblem, KeyUnavailable) as problem:
        return _say(problem, Exit.USAGE)
    except NotStarted as problem:
        return _say(problem, Exit.NOT_FOUND)
    except StateProblem as problem:
        return _say(problem, Exit.VERIFICATION)
    except (Busy, OSError, sqlite3.Error) as problem:
        return _say(problem, Exit.UNEXPECTED)


def _say(problem: Exception, code: Exit) -> Exit:
    print(f"fleetward-agent: {problem}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleetward-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fleetward-agent {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="run | status | doctor")
    for name, command, tells in (
        ("run", run, "work until told to stop"),
        ("status", status, "say what the state files say"),
        ("doctor", doctor, "check what may stand in the way"),
    ):
        one = commands.add_parser(name, help=tells, description=tells)
        one.set_defaults(command=command)
        _options(one)
    return parser


def _options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file (default {FILE})")
    where.add_argument("--device", type=Path, metavar="FOLDER", help="a provisioned folder")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--log-level", choices=LEVELS, help="least urgent line to log")
    parser.add_argument("--log-format", choices=FORMATS, help="form of the log on stderr")


def _config(asked: argparse.Namespace) -> Config:
    if asked.device is not None:
        return from_folder(asked.device)
    return load(asked.config or Path(FILE))


def run(config: Config, asked: argparse.Namespace) -> Exit:
    """Work until SIGTERM or SIGINT."""
    start_logging(asked.log_level or config.log.level, asked.log_format or config.log.format)
    stop = Stop()
    with _alone(config):
        device = assemble(config)
        link = SelectorLink(time.monotonic)
        host = Host(link, [device], World.real(log))
        host.run(stop, POLL_S)
        host.shut()
        deadline = time.monotonic() + CLOSE_WITHIN_S
        host.run(lambda: host.closed or time.monotonic() > deadline, POLL_S)
        link.shutdown()
    return Exit.INTERRUPTED if stop.by == signal.SIGINT else Exit.OK


class Stop:
    """Whether a signal asked to stop, and which."""

    def __init__(self) -> None:
        self.by: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _: object) -> None:
        self.by = number

    def __call__(self) -> bool:
        """Say whether to stop."""
        return self.by is not None


@contextmanager
def _alone(config: Config) -> "Iterator[None]":
    """Hold the state folder: two agents on one state would use one number twice."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (config.state_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{config.state_dir}: another agent is running on this state") from None
        yield


def log(event: str, fields: Mapping[str, str | int]) -> None:
    """Write one line."""
    level = logging.WARNING if event in WARNINGS else logging.DEBUG if event in QUIET else logging.INFO
    logging.getLogger("fleetward.agent").log(level, event, extra=dict(fields))


def status(config: Config, asked: argparse.Namespace) -> Exit:
    """Print what the state files say."""
    found = asdict(status_of(config))
    _print(found, asked, lambda: "\n".join(f"{name.replace('_', ' '):20} {value}" for name, value in found.items()))
    return Exit.OK


def doctor(config: Config, asked: argparse.Namespace) -> Exit:
    """Print one line per check."""
    findings = examine(config)
    lines = (f"{'ok  ' if one.ok else 'FAIL'}  {one.check:12} {one.detail}" for one in findings)
    _print([asdict(one) for one in findings], asked, lambda: "\n".join(lines))
    return Exit.OK if all(one.ok for one in findings) else Exit.UNEXPECTED


def _print(document: object, asked: argparse.Namespace, text: Callable[[], str]) -> None:
    print(json.dumps(document) if asked.json else text())


if __name__ == "__main__":
    sys.exit(main())
