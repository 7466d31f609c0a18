"""The people of the published vectors, for tests that need somebody to sign."""

from pathlib import Path

import pytest

from fleetward_sandbox.vector_author import Author
from fleetward_sandbox.vector_pki import assemble

FOLDER = Path(__file__).parents[2] / "schemas" / "vectors"


@pytest.fixture(scope="session")
def cast():
    return assemble(FOLDER / "keys")


@pytest.fixture(scope="session")
def author(cast):
    return Author(cast)
