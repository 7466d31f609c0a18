"""Where a passphrase comes from: a file of its owner's, a file descriptor, or a terminal; never the command line."""

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fleetward_server.problem import Kind, OperatorProblem

MOST_BYTES = 1024

File = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Its first line is the passphrase; mode 0600, 12 bytes or more."),
]
Descriptor = Annotated[
    int,
    typer.Option(
        "--passphrase-fd", envvar="FLEETWARD_PASSPHRASE_FD", help="A descriptor to read it from.", show_default="ask"
    ),
]


@dataclass(frozen=True, slots=True)
class Source:
    """What the options said. descriptor: negative for none."""

    file: Path | None = None
    descriptor: int = -1

    def read(self, *, twice: bool = False) -> bytes:
        """Return the passphrase. twice: have a person say it again.

        Raises:
            OperatorProblem: ``invalid``: too short, unreadable, or nobody to ask.
        """
        from fleetward_server.backup import SECRET_LEAST, read_secret

        if self.file is not None:
            return read_secret(self.file)
        said = _from(self.descriptor) if self.descriptor >= 0 else _asked(twice=twice)
        if len(said) < SECRET_LEAST:
            raise OperatorProblem(Kind.INVALID, f"a passphrase of {len(said)} bytes: at least {SECRET_LEAST}")
        return said


def _from(descriptor: int) -> bytes:
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_BYTES).rstrip(b"\r\n")
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"--passphrase-fd {descriptor}: {error.strerror}") from None


def _asked(*, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise OperatorProblem(Kind.INVALID, "a passphrase is needed: --passphrase-file, --passphrase-fd, or a terminal")
    said = getpass.getpass("Passphrase of the offline keys: ")
    if twice and getpass.getpass("Once more: ") != said:
        raise OperatorProblem(Kind.INVALID, "the two were not the same; nothing was made")
    return said.encode()
