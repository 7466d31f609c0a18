"""What live tests share: an embedded broker, providers with a MOSIP of each age, and software tokens.

Tokens lie all in one folder, since a process's PKCS#11 module knows one folder.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_broker.token_keys import make_token_key
from fleetward_sandbox.mosip.serve import Served, open_sandbox
from fleetward_sandbox.softhsm import CONFIGURATION, SoftToken, make_token
from fleetward_schemas.jws import Alg
from fleetward_server.mosip.settings import Profile
from tests.live.brokerhouse import NARROW, BrokerProcess
from tests.live.mosiphouse import Clock, Office, fresh, office, serving


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


@pytest.fixture(scope="module")
def clock() -> Clock:
    """Give a file of tests a time of its own."""
    return Clock()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Served]:
    """Run one sandbox MOSIP under that time."""
    with serving(tmp_path_factory.mktemp("mosip"), clock) as running:
        yield running


@pytest.fixture(params=[Profile.PMS, Profile.MASTERDATA])
def here(request: pytest.FixtureRequest, tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    """Give a provider at either register of 1.1."""
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, request.param) as made:
        yield made


@pytest.fixture
def pms(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    """Give a provider at partner management."""
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS) as made:
        yield made


@pytest.fixture
def crypto(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    """Give a provider since 1.2."""
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.CRYPTO_ONLY) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve one MOSIP for a file of tests, by the clock of the system."""
    began = datetime.now(UTC) - timedelta(hours=1)
    with Served(open_sandbox(tmp_path_factory.mktemp("mosip"), began, began)) as made:
        yield made
