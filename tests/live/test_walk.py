"""The first walk with nothing in memory: real broker, real TLS, real agents, real files."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_sandbox.hostile import Loot, Thief, attacks
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.identity import Certification
from fleetward_server.state import Presence
from tests.live.house import House

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as made:
        yield made


def state(house: House, device_id: str) -> State | None:
    row = house.device(device_id)
    return None if row is None else row.state


def is_registered(house: House, device_id: str) -> bool:
    return state(house, device_id) is State.REGISTERED


@pytest.mark.parametrize("level", list(Certification))
def test_a_device_that_nobody_touched_registers_reports_and_obeys(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), f"an {level} reports")

    order = house.operator.send_command(made.id, "collect-info", {}, 600, "look")
    house.wait(lambda: house.store.command(order.id).step is Step.SUCCEEDED, "its command is answered")  # type: ignore[union-attr]

    assert is_registered(house, made.id)
    # A result is more urgent than the information it tells of.
    house.wait(lambda: house.reports(made.id, "info"), "its information is stored")
    assert [report.kind for report in house.reports(made.id, "info")] == ["info"]


def test_an_agent_that_leaves_says_so_and_comes_back(house: House) -> None:
    (made,) = house.provision(1)
    agent = house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "the agent reports")

    agent.terminate()
    assert agent.wait(60) in {0, 130}
    house.wait(lambda: house.device(made.id).presence is Presence.OFFLINE, "it is offline")  # type: ignore[union-attr]
    house.start_agent(made.folder)

    house.wait(lambda: house.device(made.id).presence is Presence.ONLINE, "it is back")  # type: ignore[union-attr]
    assert house.device(made.id).enrolments == 1  # type: ignore[union-attr]


def test_an_agent_that_is_killed_is_offline_by_its_will(house: House) -> None:
    (made,) = house.provision(1)
    agent = house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "the agent reports")

    agent.kill()

    house.wait(lambda: house.device(made.id).presence is Presence.OFFLINE, "its will is believed")  # type: ignore[union-attr]


def test_a_stranger_waits_for_an_operator_and_is_told_at_once(house: House) -> None:
    (made,) = house.provision(1, listed=False)
    house.start_agent(made.folder)
    house.wait(lambda: state(house, made.id) is State.PENDING, "the stranger waits")
    assert house.device(made.id).reason is Reason.NOT_LISTED  # type: ignore[union-attr]

    house.operator.approve(made.id, "known to us")

    house.wait(lambda: is_registered(house, made.id), "the approved stranger registers", within_s=40)


def test_a_thief_is_refused_by_exactly_six_codes_and_the_next_good_message_works(house: House) -> None:
    made = house.provision(2)
    for one in made:
        agent = house.start_agent(one.folder)
    house.wait(lambda: all(house.reports(one.id) for one in made), "both report")
    agent.terminate()
    agent.wait(60)
    victim, other = Loot.of(made[1].folder), Loot.of(made[0].folder)
    thief = Thief(victim)

    for _, messages in attacks(victim, other, datetime.now(UTC)):
        for message in messages:
            thief.send(message)
    codes = ("bad-signature", "replayed", "stale", "too-large", "unknown-signer", "wrong-topic")
    # What the victim said itself before it left has come in by then too.
    house.wait(lambda: house.refusals(victim.id).keys() >= set(codes), "each is refused")
    count = len(house.reports(victim.id))
    thief.send(victim.telemetry(datetime.now(UTC)))

    house.wait(lambda: len(house.reports(victim.id)) == count + 1, "the good message is stored")
    thief.close()
    assert house.refusals(victim.id) == dict.fromkeys(codes, 1)


def test_everything_restarted_goes_on_where_it_was(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        (made,) = house.provision(1)
        house.start_agent(made.folder)
        house.wait(lambda: house.reports(made.id), "the agent reports")
        port = house.port

        assert house.stop() == 0
        before = len(house.reports(made.id))
        (house.folder / "fleetward.toml").write_text(
            (house.folder / "fleetward.toml").read_text().replace("port = 0", f"port = {port}")
        )
        house.serve()

        house.wait(lambda: len(house.reports(made.id)) > before, "the agent found its way back")
