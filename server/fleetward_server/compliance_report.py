"""The report for auditors: each clause, where it is, what shows it, what that said; and a provider's live figures.

One value, shown as JSON or as one page of HTML that needs no script and loads nothing.
"""

import subprocess
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleetward_server.compliance_clauses import Clause, clauses
from fleetward_server.compliance_live import Figures
from fleetward_server.compliance_results import CHANGED, Outcome, Results, Standing, doubt, standing

GIT_S = 10
TEMPLATE = "compliance.html.j2"


@dataclass(frozen=True, slots=True)
class Shown:
    """One test or file of tests. cases: how many it stands for."""

    test: str
    outcome: Outcome
    cases: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A clause or layer as it stands."""

    id: str
    anchor: str
    asks: str
    standing: Standing
    missing: str
    implemented: tuple[str, ...]
    tests: tuple[Shown, ...]

    @property
    def cases(self) -> int:
        """How many cases of tests show it."""
        return sum(one.cases for one in self.tests)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. doubt: why the results of tests do not count; empty when they do. live: None without a provider.

    results_sha256, results_cases: of the JUnit file, empty and 0 without one.
    """

    made_at: datetime
    commit: str
    doubt: str
    clauses: tuple[Judged, ...]
    layers: tuple[Judged, ...]
    live: Figures | None
    results_sha256: str = ""
    results_cases: int = 0

    @property
    def tally(self) -> dict[str, int]:
        """How many clauses stand how."""
        found = Counter(one.standing for one in self.clauses)
        return {str(word): found[word] for word in Standing}


def compose(results: Results | None, commit: str, live: Figures | None, now: datetime) -> Report:
    """Return the report. commit: which the program is of; empty: nobody knows."""
    why = doubt(results, commit)
    counted = Results() if why or results is None else results
    held = clauses()
    return Report(
        now,
        commit,
        why,
        tuple(_judged(one, counted) for one in held.clause),
        tuple(_judged(one, counted) for one in held.layer),
        live,
        "" if results is None else results.sha256,
        0 if results is None else results.cases,
    )


def _judged(clause: Clause, results: Results) -> Judged:
    shown = tuple(Shown(test, *results.of(test)) for test in clause.tests)
    stands = standing(clause, (one.outcome for one in shown))
    return Judged(clause.id, clause.anchor, clause.asks, stands, clause.missing, clause.implemented, shown)


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("fleetward_server", "."), autoescape=True, undefined=StrictUndefined)


def page(report: Report) -> str:
    """Return the report as one page of HTML; whatever stands in it is text, never markup."""
    return _environment().get_template(TEMPLATE).render(report=report)


def commit_of(folder: Path) -> str:
    """Return the commit of the checkout that a folder is in, ``+changes`` behind it; nothing outside of any."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + (CHANGED if _git(folder, "status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ("git", "-C", str(folder), *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, check=True).stdout.strip()
