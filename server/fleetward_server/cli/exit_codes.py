"""What the command ends with; scripts rely on it. The same kind of trouble gives the same code everywhere.

One code for everything would help nobody.
"""

from enum import IntEnum

from fleetward_server.problem import Kind


class ExitCode(IntEnum):
    """Every exit code there is."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    CONFLICT = 5
    HELD = 6
    UNVERIFIED = 7
    TIMEOUT = 8
    INTERRUPTED = 130


OF_KIND = {
    Kind.INVALID: ExitCode.USAGE,
    Kind.NOT_FOUND: ExitCode.NOT_FOUND,
    Kind.FORBIDDEN: ExitCode.FORBIDDEN,
    Kind.CONFLICT: ExitCode.CONFLICT,
    Kind.HELD: ExitCode.HELD,
    Kind.UNVERIFIED: ExitCode.UNVERIFIED,
    Kind.TIMEOUT: ExitCode.TIMEOUT,
    Kind.FAILED: ExitCode.UNEXPECTED,
}

MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "failed, or something nobody expected",
    ExitCode.USAGE: "wrong usage, input or configuration",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.FORBIDDEN: "not allowed",
    ExitCode.CONFLICT: "conflict: held by another, already so, or a condition does not hold",
    ExitCode.HELD: "refused by policy, or awaiting approval",
    ExitCode.UNVERIFIED: "verification failed",
    ExitCode.TIMEOUT: "timed out",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}
EPILOG = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."
