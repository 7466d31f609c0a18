"""Upgrades for real, on both brokers: from what the factory put in to committed, whoever is killed meanwhile.

``FLEETWARD_SEED`` replays a run.
"""

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_sandbox.provision import Made
from fleetward_schemas.upgrade import Phase, Why
from fleetward_server.releases import rotating
from tests.live.house import BROKERS, alive
from tests.live.upgrading import Works, image
from tests.live.upgrading_fleet import upgraded
from tests.server.releaser import SECRET

pytestmark = pytest.mark.live
SEED = int(os.environ.get("FLEETWARD_SEED", "20261126"))
KILLS = ("server", "broker", "agent", "agent", "agent", "agent")


@pytest.mark.parametrize("broker", BROKERS)
def test_a_fleet_is_upgraded_once_whoever_is_killed_meanwhile(
    tmp_path: Path, broker: str, figure: Callable[[str], None]
) -> None:
    chance = random.Random(SEED)
    with Works(tmp_path, broker) as works:
        made = works.devices(4)
        target = works.release(2)
        began = time.monotonic()
        works.assign(target, *made)
        killed = kill(works, made, chance)
        works.upgraded(2, *made)
        took_s = time.monotonic() - began
        for one in made:
            assert works.committed(one) == 1
            # Mosquitto, killed, may give what it kept after what came later; the device says that again.
            assert works.house.refusals(one.id).keys() <= ({"replayed"} if broker == "mosquitto" else set())
    figure(f"{broker}: {len(made)} devices upgraded {took_s:.1f} s after the order; killed: {', '.join(killed)}")


def kill(works: Works, made: list[Made], chance: random.Random) -> list[str]:
    """Kill server, broker and agents at moments drawn from the seed; nobody ever runs a part of a version."""
    parts = list(KILLS)
    chance.shuffle(parts)
    house = works.house
    for part in parts:
        moment = time.monotonic() + chance.uniform(0.1, 1.2)
        house.wait(lambda moment=moment: time.monotonic() >= moment, "the drawn moment")
        if part == "agent":
            number = chance.randrange(len(made))
            house.agents[number] = works.restart(house.agents[number], made[number])
        else:
            house.wait(lambda part=part: part in house.found() and alive(int(house.found()[part])), f"{part} runs")
            house.kill(part)
        assert {works.runs(one) for one in made} <= {image(1), image(2)}
    return parts


def test_an_ill_version_goes_back_and_root_keys_change_while_a_device_is_away(tmp_path: Path) -> None:
    with Works(tmp_path) as works:
        there, away, sick = works.devices(3)
        works.assign(works.release(2), there, away, sick)
        works.upgraded(2, there, away, sick)
        works.house.agents[1].terminate()
        works.house.agents[1].wait()
        works.assign(works.release(3, image(3, "sick")), sick)
        rotate(works)
        works.assign(works.release(4), there, away)
        works.upgraded(4, there)
        works.house.start_agent(away.folder)
        works.upgraded(4, away)

        works.ends(sick, Phase.FAILED, Why.UNHEALTHY)
        assert works.counter(sick) == 2
        assert works.runs(sick) == image(2)
        assert works.committed(sick) == 1


@pytest.mark.slow
def test_a_fleet_of_scanners_is_upgraded_at_once(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """A thousand in the bench."""
    figure(str(upgraded(tmp_path, 25, within_s=400)))


def rotate(works: Works) -> None:
    """Replace a root key and the release key, as after a theft: two roots follow, one after the other."""
    for key in ("root-1", "release"):
        works.maker.operator.ask_renewal(works.maker.exchange)
        wish = rotating.Wish((works.maker.keys,), (key,), SECRET)
        rotating.rotate(wish, works.maker.exchange, datetime.now(UTC))
        works.maker.publish()
