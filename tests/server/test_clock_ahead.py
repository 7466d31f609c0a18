"""A system clock that was ahead, as at a boot before the network gave the time: nothing made then shuts anybody out."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_broker.tls import read_crls
from fleetward_server.authority import ALL_REVOKED, Authority
from fleetward_server.config import Config, load
from fleetward_server.init import Wish
from fleetward_server.lines import alone, due_lines, renew_line
from fleetward_server.standing import LINES
from fleetward_server.supervise import STEP_US, Up
from fleetward_server.upkeep import publish_lists
from tests.ready import ready_provider

NOW = datetime.now(UTC).replace(microsecond=0)
AHEAD = NOW + timedelta(days=400)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    ready_provider(tmp_path, Wish(port=0), NOW)
    return load(tmp_path)


class Once:
    """Lets a watch look once."""

    def __init__(self) -> None:
        self._looks: Iterator[bool] = iter((False, True))

    def wait(self, timeout: float | None = None) -> bool:
        return next(self._looks)


def begins(config: Config) -> set[datetime]:
    """Return when the lists that are in force begin."""
    return {one.last_update_utc for one in read_crls(config.pki / "crl" / ALL_REVOKED)}


def test_a_signing_key_that_has_not_begun_is_made_anew(config: Config) -> None:
    authority = Authority(config)
    assert authority.own_seal(AHEAD).due(NOW)
    assert not authority.own_seal(NOW).due(NOW)


def test_certificates_of_the_line_that_have_not_begun_are_made_anew(config: Config) -> None:
    assert due_lines(config, NOW) == ()
    for name in LINES:
        with alone(config):
            renew_line(config, name, AHEAD)
    assert due_lines(config, NOW) == LINES
    assert due_lines(config, AHEAD) == ()


@pytest.mark.parametrize(("steps", "is_renewed"), [(-2, True), (2, True), (0, False)])
def test_lists_are_written_anew_when_the_clock_was_set(config: Config, steps: int, is_renewed: bool) -> None:
    publish_lists(config, AHEAD)
    whole = Up(config, stopping=Once())  # type: ignore[arg-type]
    whole.ahead_us -= steps * STEP_US

    whole.watch()

    assert (max(begins(config)) < AHEAD - timedelta(days=1)) is is_renewed
