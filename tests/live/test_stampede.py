"""Many devices of one new model at once: nobody is refused, nothing is there twice, and it stays that way."""

from collections import Counter
from pathlib import Path

import pytest

from fleetward_sandbox.fleet import Door, Fleet
from fleetward_schemas.enrol import State
from fleetward_schemas.jws import Alg
from tests.live.house import House

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]
COUNT = 300


def test_three_hundred_of_a_new_model_register_at_once(tmp_path: Path) -> None:
    with House(tmp_path, telemetry_s=10) as house:
        made = house.provision(COUNT, alg=Alg.EDDSA, model="Brand-New-1")
        fleet = Fleet([one.folder for one in made], Door("localhost", house.port), device_alg=Alg.EDDSA)
        house.wait(lambda: fleet.turn() or registered(house) == COUNT, "all are registered", within_s=480)
        fleet.close()

        assert house.store.counts().refusals == {}
        assert len({device.id for device in house.all_devices()}) == COUNT
        uses = Counter(c.use for device in house.all_devices() for c in house.store.certificates(device.id))
        assert set(uses.values()) == {COUNT}
        a_new_one_registers_after_a_restart(house)


def a_new_one_registers_after_a_restart(house: House) -> None:
    assert house.stop() == 0
    house.serve()
    (made,) = house.provision(1, model="Brand-New-1")
    house.start_agent(made.folder)
    house.wait(lambda: registered(house) == COUNT + 1, "a new one registers")


def registered(house: House) -> int:
    return house.store.counts().states.get(State.REGISTERED, 0)
