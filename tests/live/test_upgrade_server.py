"""What devices shall run, over the real broker: an independent client is told, fetches, and says how far it is."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetward_sandbox.provision import Made
from fleetward_schemas.identity import Certification
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase
from fleetward_server.releases.init import Wish
from fleetward_server.running import READY
from fleetward_server.store import AuditFilter
from fleetward_server.upgrade_state import Upgrade
from tests.live.house import House
from tests.live.test_independent import WAIT_S, Run, is_online
from tests.server.releaser import SECRET, Maker

pytestmark = pytest.mark.live

CLIENT = Path(__file__).with_name("independent_upgrade.py")
OLDER = "firmware/1.7/fw.bin"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("told")
    with House(folder / "house", serve=False) as made:
        maker = Maker(folder / "maker", made.folder)
        maker.operator.make_repository(Wish(maker.keys_folder, SECRET))
        maker.release(7, models=())
        maker.release(8, models=(), content=b"better firmware")
        made.serve()
        made.wait(lambda: made.found().get("artifacts_port"), "bytes are served")
        yield made


def fleetward(house: House, *words: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "fleetward_server", "upgrade", *words, "--dir", str(house.folder), "--json"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout or done.stderr)


def told(made: Made, *words: str) -> Run:
    return Run(made, "--patience", WAIT_S, *words, client=CLIENT)


def upgrades(house: House, made: Made) -> tuple[Upgrade, ...]:
    return house.store.upgrades_of((DeviceId(made.id),))


@pytest.mark.parametrize("level", Certification)
def test_a_device_that_is_there_is_told_and_gets_as_far_as_committed(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    with told(made) as run:
        house.wait(lambda: is_online(house, made.id), "registered and online")
        given = fleetward(house, "assign", made.id, "--name", "firmware", "--reason", "better")
        assert run.end() == {"version": given["version"], "releases": [["firmware", 8]], "window": None}
    (upgrade,) = upgrades(house, made)
    assert (upgrade.phase, upgrade.attempt, upgrade.assignment) == (Phase.COMMITTED, 1, given["version"])
    assert upgrade.committed is not None
    assert upgrade.committed.counter == 8
    assert house.refusals(made.id) == {}
    words = fleetward(house, "show", made.id)["history"]
    assert [one["state"] for one in words][-1] == "committed"
    assert len(words) == 7
    history = house.store.audit_links(0, 999, AuditFilter(subject=made.id))
    assert [one.entry.action for one in history if one.entry.action.startswith("upgrade")] == [
        "upgrade-assigned",
        "upgrade-committed",
    ]
    refused = fleetward(house, "assign", made.id, "--target", OLDER, code=5)
    assert "never goes back" in json.dumps(refused)


def test_one_that_said_nothing_is_told_again_when_it_comes_and_by_a_server_that_was_killed(house: House) -> None:
    (made,) = house.provision(1)
    with told(made, "--silent") as run:
        house.wait(lambda: is_online(house, made.id), "registered and online")
        given = fleetward(house, "assign", made.id, "--target", OLDER)
        first = run.end()
    house.wait(lambda: not is_online(house, made.id), "it said goodbye")
    killed = house.kill("server")
    # This client asks for the time once, and an answer that is 5 s late is none.
    house.wait(lambda: house.found().get("server", killed) != killed and (house.folder / READY).exists(), "another")
    with told(made) as run:
        again = run.end()
    assert first == again == {"version": given["version"], "releases": [["firmware", 7]], "window": None}
    (upgrade,) = upgrades(house, made)
    assert upgrade.phase is Phase.COMMITTED
    assert house.refusals(made.id) == {}
