"""A server that serves says what ends soon, where probes look."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import make_key
from fleetward_schemas.jws import Alg
from fleetward_server.health import FILE, read_health
from tests.live.house import House

pytestmark = pytest.mark.live


def warnings(house: House) -> list[str]:
    """Return what the server says will need somebody."""
    return list(json.loads((house.folder / FILE).read_bytes())["warnings"])


def test_what_ends_soon_stands_in_the_health_of_a_server_that_is_ready(tmp_path: Path) -> None:
    with House(tmp_path, serve=False) as house:
        start = datetime.now(UTC) - profiles.ROOT.life + timedelta(days=5)
        root = profiles.self_signed(Subject("chips", "Chips Ltd"), make_key(Alg.RS256), start)
        house.operator.add_ftm_root(root.public_bytes(Encoding.PEM), "chips", "trusted")
        house.serve()
        house.wait(lambda: not read_health(house.folder), "the server is ready")
        house.wait(lambda: warnings(house), "it has looked at what ends")
        (said,) = warnings(house)
    assert said.startswith("certificate of ftm-root chips: until ")
    assert said.endswith("within 7 days")
