"""What tests said, from a JUnit file, and what that says of a clause.

A result counts for the very commit it was made from and no other: the file names its commit as the property ``commit``,
or a file ``NAME.commit`` beside it does. Everything else is unknown, never good.
"""

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from fleetward_server.compliance_clauses import Clause
from fleetward_server.problem import Kind, OperatorProblem

MOST_BYTES = 64 * 1024 * 1024
COMMIT = re.compile(r"[0-9a-f]{40,64}")
CHANGED = "+changes"
"""Behind a commit: the files were not those of the commit."""


class Outcome(StrEnum):
    """What became of a test, or of all that show a clause."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class Standing(StrEnum):
    """How a clause stands."""

    HOLDS = "holds"
    FAILS = "fails"
    PARTLY = "partly"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Results:
    """What a JUnit file says. commit: of which it speaks; empty: it does not say. outcomes: by file::test.

    sha256: of the file, in hexadecimal, so that whoever has it can say that it is the one.
    """

    commit: str = ""
    outcomes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    sha256: str = ""

    @property
    def cases(self) -> int:
        """How many cases of tests it speaks of."""
        return sum(map(len, self.outcomes.values()))

    def of(self, test: str) -> tuple[Outcome, int]:
        """Return what became of a test or of a whole file, the worst first, and of how many cases."""
        if "::" in test:
            found = self.outcomes.get(test, ())
        else:
            found = tuple(one for name, each in self.outcomes.items() if name.startswith(f"{test}::") for one in each)
        for worst in (Outcome.FAILED, Outcome.SKIPPED):
            if worst in found:
                return worst, len(found)
        return (Outcome.PASSED if found else Outcome.UNKNOWN), len(found)


def read_results(path: Path) -> Results:
    """Read a JUnit file as pytest writes it.

    Raises:
        OperatorProblem: ``invalid``: not readable, too large, or not JUnit.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise OperatorProblem(Kind.INVALID, f"--junit {path}: over {MOST_BYTES >> 20} MiB")
        raw = path.read_bytes()
        root = parse(io.BytesIO(raw)).getroot()
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"--junit {path}: {error.strerror}") from None
    except (ParseError, DefusedXmlException, ValueError):
        raise OperatorProblem(Kind.INVALID, f"--junit {path}: not a JUnit file") from None
    if root is None or root.tag not in {"testsuites", "testsuite"}:
        raise OperatorProblem(Kind.INVALID, f"--junit {path}: expected testsuites, as pytest --junitxml writes them")
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for case in root.iter("testcase"):
        outcomes[_name(case)].append(_outcome(case))
    named = {name: tuple(found) for name, found in outcomes.items()}
    return Results(_commit(root, path), named, hashlib.sha256(raw).hexdigest())


def _commit(root: Element, path: Path) -> str:
    said = {one.get("value", "") for one in root.iter("property") if one.get("name") == "commit"}
    beside = path.with_name(f"{path.name}.commit")
    if not said and beside.is_file():
        said = {beside.read_text("ascii", "replace").strip()}
    return said.pop() if len(said) == 1 else ""


def _name(case: Element) -> str:
    """Return ``tests/a/test_b.py::test_c`` for one case: of a class or with parameters, it is the same test."""
    parts = case.get("classname", "").split(".")
    module = next((number for number, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return f"{'/'.join(parts[: module + 1])}.py::{case.get('name', '').partition('[')[0]}"


def _outcome(case: Element) -> Outcome:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return Outcome.FAILED
    return Outcome.SKIPPED if "skipped" in tags else Outcome.PASSED


def doubt(results: Results | None, commit: str) -> str:
    """Return why results do not count for this commit; nothing when they do."""
    if results is None:
        return "no JUnit file was given (--junit)"
    if not commit:
        return "which commit this is, is not known (--commit)"
    if not results.commit:
        return "the JUnit file does not say of which commit it is"
    if not COMMIT.fullmatch(commit):
        return "the files are not those of the commit: there are changes"
    return "" if results.commit == commit else f"the JUnit file is of another commit: {results.commit[:24]}"


def standing(clause: Clause, outcomes: Iterable[Outcome]) -> Standing:
    """Return how a clause stands: one test that failed is a failure, one that did not run is not known."""
    found = set(outcomes)
    if Outcome.FAILED in found:
        return Standing.FAILS
    if clause.missing:
        return Standing.PARTLY if clause.implemented else Standing.OPEN
    return Standing.HOLDS if found == {Outcome.PASSED} else Standing.UNKNOWN
