"""What live tests share: an embedded broker, and software tokens.

Tokens lie all in one folder, since a process's PKCS#11 module knows one folder.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from fleetward_broker.token_keys import make_token_key
from fleetward_sandbox.softhsm import CONFIGURATION, SoftToken, make_token
from fleetward_schemas.jws import Alg
from tests.live.brokerhouse import NARROW, BrokerProcess


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], SoftToken]]:
    """Make a token of a label nobody else has."""
    home, before = tmp_path_factory.mktemp("tokens"), os.environ.get(CONFIGURATION)
    yield lambda label: make_token(home, label)
    os.environ.pop(CONFIGURATION, None)
    if before is not None:
        os.environ[CONFIGURATION] = before


@pytest.fixture(scope="session")
def hsm(tokens: Callable[[str], SoftToken]) -> SoftToken:
    """Make a token with a key of each algorithm, named by it."""
    made = tokens("our fleet")
    for alg in Alg:
        make_token_key(made.key(alg), alg)
    return made


@pytest.fixture(scope="module")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Run one embedded broker for a file of tests."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), NARROW) as running:
        yield running


@pytest.fixture
def broker(running_broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """Give it, and close every line that the test left open."""
    yield running_broker
    running_broker.hang_up()
