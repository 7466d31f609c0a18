"""Options and fixtures that every test may use."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import settings

from fleetward_server.compliance_report import commit_of

MOSIP_VECTORS = Path(__file__).parents[2] / "shared" / "mosip-vectors"
"""Certificates and messages that MOSIP's projects published, beside the checkout where somebody put them."""
NEEDS_VECTORS = frozenset({"test_mosip_certs.py", "test_mosip_local.py", "test_mosip_vectors.py"})
# What a run draws it draws in every run; ``HYPOTHESIS_PROFILE=explore`` draws anew. No case has to be quick.
settings.register_profile("explore", deadline=None)
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
# Reading an RSA key, with the proof that it is one, takes some 40 ms, and the same few are read thousands of times.
serialization.load_pem_private_key = cache(serialization.load_pem_private_key)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deselect-parts", action="store_true", help="leave out tests marked 'part' (deploy/apt.txt)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deselect-parts"):
        left_out = [item for item in items if item.get_closest_marker("part")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("part")]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path.name in NEEDS_VECTORS and not MOSIP_VECTORS.is_dir() else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Write into a JUnit file of which commit it is: results of another one prove nothing."""
    for plugin in session.config.pluginmanager.get_plugins():
        # The one that writes the file, there where it is written: not in the processes side by side.
        if hasattr(plugin, "add_global_property"):
            plugin.add_global_property("commit", commit_of(Path(__file__).parent))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say a figure that was measured: shown at the end of the run, whichever process measured it."""
    return lambda text: record_property("figure", text)


@pytest.fixture
def many_open() -> Iterator[None]:
    """Hold so many files that the next has a number above 1,023, where ``select`` ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as held:
        while held.enter_context(open(os.devnull)).fileno() < 1024:  # noqa: PTH123
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, [])]
    for text in sorted({str(text) for one in reports for name, text in one.user_properties if name == "figure"}):
        terminalreporter.write_line(text)
    if not MOSIP_VECTORS.is_dir():
        names = ", ".join(sorted(NEEDS_VECTORS))
        terminalreporter.write_line(f"left out, since ../shared/mosip-vectors is not beside the checkout: {names}")
