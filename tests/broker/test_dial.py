"""Dialling: what a name costs before anything is sent."""

import resource
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from fleetward_broker.dial import Address, Knock, NotThrough, addresses
from fleetward_broker.line import Dial, Loss

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


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def knock() -> Knock:
    found: Future[list[Address]] = Future()
    found.set_result(addresses("127.0.0.1", 1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Knock(Dial("127.0.0.1", 1, "localhost", "c1", context, clean=True), found)


def test_without_a_free_descriptor_there_is_no_line_and_nothing_else_ends(no_descriptors: None) -> None:
    with pytest.raises(NotThrough) as ended:
        knock().step()

    assert (ended.value.loss, ended.value.detail) == (Loss.UNREACHABLE, "Too many open files")


def test_with_one_the_same_address_is_tried() -> None:
    trying = knock()
    assert trying.step()
    assert trying.in_tcp
    trying.drop()
