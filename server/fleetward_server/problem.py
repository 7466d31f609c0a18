"""Why an operator's act did not happen: one exception, a closed list of kinds, a message that says what to do.

The command line turns a kind into an exit code, an API into a status. Source: CONTRIBUTING.md "Style".
"""

import difflib
from collections.abc import Iterable
from enum import StrEnum


class Kind(StrEnum):
    """What went wrong."""

    INVALID = "invalid"
    NOT_FOUND = "not-found"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    HELD = "held"
    UNVERIFIED = "unverified"
    TIMEOUT = "timeout"
    FAILED = "failed"


class OperatorProblem(Exception):  # noqa: N818 - says what is wrong
    """The act was not done and nothing was changed."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for a word that is not known: the nearest that is, or all of them."""
    words = [str(one) for one in known]
    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words)}"
