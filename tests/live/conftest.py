"""What live tests share: software tokens, all in one folder, since a process's PKCS#11 module knows one folder."""

import os
from collections.abc import Callable, Iterator

import pytest

from fleetward_broker.token_keys import make_token_key
from fleetward_sandbox.softhsm import CONFIGURATION, SoftToken, make_token
from fleetward_schemas.jws import Alg


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
