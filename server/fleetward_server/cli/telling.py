"""How a command fails: one line on stderr (or one JSON object), an exit code from the table, never a traceback.

Source: CONTRIBUTING.md "Style"; exit_codes.py.
"""

import getpass
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fleetward_server.cli.exit_codes import OF_KIND, ExitCode
from fleetward_server.duration import EXPECTED, read_duration
from fleetward_server.problem import Kind, OperatorProblem, nearest

if TYPE_CHECKING:
    from fleetward_server.mass import MassOperator


def complain(kind: str, message: str, *, as_json: bool) -> None:
    """Print what went wrong, on stderr."""
    text = json.dumps({"error": {"kind": kind, "message": message}}) if as_json else f"fleetward: {message}"
    print(text, file=sys.stderr)


@contextmanager
def telling(*, as_json: bool) -> Iterator[None]:
    """Turn a problem into its message and exit code."""
    try:
        yield
    except OperatorProblem as problem:
        complain(problem.kind, problem.message, as_json=as_json)
        raise typer.Exit(OF_KIND[problem.kind]) from None
    except BrokenPipeError:
        # The reader has seen enough.
        raise typer.Exit(ExitCode.OK) from None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the troubles of a provider's folder into the operator's."""
    from fleetward_broker.key_problems import KeyUnavailable
    from fleetward_server.brokers import NotInstalled
    from fleetward_server.config import ConfigProblem
    from fleetward_server.generations import AuthorityProblem
    from fleetward_server.locks import Busy
    from fleetward_server.parts import StartFailed
    from fleetward_server.running import Held, NotRunning
    from fleetward_server.store import StoreHeld, StoreProblem

    try:
        yield
    except NotRunning as problem:
        raise OperatorProblem(Kind.NOT_FOUND, str(problem)) from None
    except (Held, StoreHeld, Busy) as problem:
        raise OperatorProblem(Kind.CONFLICT, str(problem)) from None
    except StartFailed as problem:
        raise OperatorProblem(Kind.FAILED, str(problem)) from None
    except (ConfigProblem, KeyUnavailable, AuthorityProblem, StoreProblem, NotInstalled) as problem:
        raise OperatorProblem(Kind.INVALID, str(problem)) from None
    except BrokenPipeError:
        raise  # Of stdout: whoever reads has seen enough.
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{error.filename or 'the folder'}: {error.strerror}") from None


@contextmanager
def acting(folder: Path, *, as_json: bool, actor: str = "") -> Iterator["MassOperator"]:
    """Give a command its operator."""
    with telling(as_json=as_json):
        from fleetward_server.mass import MassOperator

        with MassOperator(folder, actor or whoami()) as operator:
            yield operator


def whoami() -> str:
    """Return the name of the host's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid-{os.getuid()}"


def read_file(path: Path) -> bytes:
    """Read a file that a person named.

    Raises:
        OperatorProblem: ``invalid``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{path}: {error.strerror}") from None


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Have a problem with what a file holds name the file."""
    try:
        yield
    except OperatorProblem as problem:
        raise OperatorProblem(problem.kind, f"{path}: {problem.message}") from None


def since(text: str) -> datetime | None:
    """Read a moment, or how long ago; None for nothing.

    Raises:
        OperatorProblem: ``invalid``.
    """
    if not text:
        return None
    ago = read_duration(text)
    if ago is not None:
        return datetime.now(UTC) - ago
    from fleetward_schemas.errors import Refused
    from fleetward_schemas.moment import parse_loose

    try:
        return parse_loose(text)
    except Refused:
        raise OperatorProblem(Kind.INVALID, f"--since {text!r}: expected 2026-05-01T12:00:00Z, or {EXPECTED}") from None


def duration(option: str, text: str) -> timedelta:
    """Read how long.

    Raises:
        OperatorProblem: ``invalid``.
    """
    found = read_duration(text)
    if found is None:
        raise OperatorProblem(Kind.INVALID, f"{option} {text!r}: expected {EXPECTED}")
    return found


def moment(option: str, text: str) -> datetime:
    """Read a moment; nothing means now.

    Raises:
        OperatorProblem: ``invalid``.
    """
    from fleetward_schemas.errors import Refused
    from fleetward_schemas.moment import parse_loose

    try:
        return parse_loose(text) if text else datetime.now(UTC)
    except Refused:
        raise OperatorProblem(Kind.INVALID, f"{option} {text!r}: expected 2026-05-01T12:00:00Z") from None


def one_of(option: str, text: str, known: Iterable[str]) -> str | None:
    """Read a word of a closed list; None for nothing.

    Raises:
        OperatorProblem: ``invalid``, with the nearest word.
    """
    words = list(known)
    if not text:
        return None
    if text not in words:
        raise OperatorProblem(Kind.INVALID, f"{option} {text!r}: {nearest(text, words)}")
    return text
