"""How many connections there may be where the system lets a process open few files."""

import pytest

from fleetward_broker.embedded.broker import MOST_BACKLOG, backlog_of
from fleetward_broker.embedded.serve import OWN_FILES, fitting


@pytest.mark.parametrize(
    ("connections", "files", "most"), [(10_000, 20_000, 10_000), (100, 1024, 100), (10_000, 64, 28)]
)
def test_as_many_as_wanted_or_as_fit(connections: int, files: int, most: int) -> None:
    assert fitting(connections, files) == most


@pytest.mark.parametrize("files", [64, 256, 1024, 4096, 65_536])
def test_all_connections_and_a_whole_backlog_fit_beside_the_brokers_own(files: int) -> None:
    most = fitting(100_000, files)
    assert most + backlog_of(most) + OWN_FILES <= files
    assert backlog_of(most) <= MOST_BACKLOG


def test_there_is_always_room_for_one() -> None:
    assert fitting(10_000, 8) == 1
