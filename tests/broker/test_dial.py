"""Dialling: what a name costs before anything is sent."""

import subprocess
import sys

import pytest

LOOK_UP = """
import sys
from fleetward_broker.dial import addresses
try:
    addresses(sys.argv[1], 1)
except (OSError, UnicodeError):
    pass
print("encodings.idna" in sys.modules)
"""


# Too long for a label, so that no name server is asked.
@pytest.mark.parametrize(("host", "loaded"), [("localhost", "False"), ("ü" * 64, "True")])
def test_only_an_international_name_loads_the_tables_of_them(host: str, loaded: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK_UP, host], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == loaded
