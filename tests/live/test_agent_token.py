"""An agent whose keys are in a token: it enrols and reports, a kill leaves no key over, a pulled token is awaited."""

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetward_agent.config import from_folder
from fleetward_agent.doctor import examine
from fleetward_agent.token_keys import TokenKeys
from fleetward_broker.token_keys import has_token_key, make_token_key
from fleetward_sandbox.provision import Made
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg, PublicKey
from fleetward_schemas.topics import DeviceId
from tests.live.house import House, name_keys
from tests.live.test_rotation import step

pytestmark = [pytest.mark.live, pytest.mark.part]
Tokens = Callable[[str], SoftToken]
KILLS, SEED = 12, 20261126
FIRST_S = 2.0
"""Within this a first start makes its keys, enrols and reports."""


@pytest.fixture(scope="module")
def token(tokens: Tokens) -> SoftToken:
    return tokens("scanner")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as made:
        yield made


def provisioned(house: House, token: SoftToken, level: Certification) -> Made:
    def chip(serial: str) -> PublicKey:
        return make_token_key(token.key(f"ftm {serial}"), Alg.RS256).public_key()

    (made,) = house.provision(1, level, chip=chip)
    level_1 = {"ftm": token.key(f"ftm {made.identity.serialNo}")} if level is Certification.L1 else {}
    name_keys(made.folder, device=token.uri, **level_1)
    return made


def is_registered(house: House, device_id: str) -> bool:
    row = house.device(device_id)
    return row is not None and row.state is State.REGISTERED


def in_token(token: SoftToken, made: Made) -> frozenset[str]:
    return TokenKeys(token.parts, DeviceId(made.id)).names()


def files(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in folder.rglob("*.key.pem")}


@pytest.mark.parametrize("level", list(Certification))
def test_a_device_enrols_and_reports_with_its_keys_in_a_token(
    house: House, token: SoftToken, level: Certification
) -> None:
    made = provisioned(house, token, level)
    house.start_agent(made.folder)

    house.wait(lambda: house.reports(made.id), f"an {level} with its keys in a token reports")
    assert is_registered(house, made.id)
    assert files(made.folder) == {"factory.key.pem", "transport"}
    assert {name.partition("-")[0] for name in in_token(token, made)} == {"device"}


def test_an_agent_killed_at_any_moment_of_its_enrolment_leaves_one_key_in_the_token(
    house: House, token: SoftToken
) -> None:
    chance = random.Random(SEED)
    made = provisioned(house, token, Certification.L1)
    for _ in range(KILLS):
        agent = house.start_agent(made.folder)
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(chance.uniform(0, FIRST_S))
        agent.kill()
        agent.wait()

    house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "it reports")

    assert len(in_token(token, made)) == 1
    assert len(list((made.folder / "state" / "keys").iterdir())) == 1


def test_an_agent_killed_at_any_moment_of_its_rotation_ends_with_one_key_that_is_taken(
    house: House, token: SoftToken
) -> None:
    chance = random.Random(SEED)
    made = provisioned(house, token, Certification.L1)
    agent = house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "it reports")
    old = in_token(token, made)

    order = house.operator.send_command(made.id, "rotate-key", {}, 600, "test")
    for _ in range(KILLS):
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(chance.uniform(0, FIRST_S))
        agent.kill()
        agent.wait()
        agent = house.start_agent(made.folder)

    house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "it has rotated")
    house.wait(lambda: len(in_token(token, made)) == 1, "one key is left")
    count = len(house.reports(made.id))
    house.wait(lambda: len(house.reports(made.id)) > count, "it goes on")
    assert in_token(token, made) & old == frozenset()
    house.wait(lambda: len(list((made.folder / "state" / "keys").iterdir())) == 1, "one transport key is left")


def test_a_retired_device_leaves_nothing_in_its_token_but_its_chips_key(house: House, token: SoftToken) -> None:
    made = provisioned(house, token, Certification.L1)
    house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "it reports")

    order = house.operator.send_command(made.id, "retire", {}, 600, "test")
    house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "its last word is heard")
    house.wait(lambda: not in_token(token, made), "its device key is gone")
    house.wait(lambda: not list((made.folder / "state" / "keys").iterdir()), "its transport key too")

    assert has_token_key(token.key(f"ftm {made.identity.serialNo}"))


def test_a_pulled_token_is_waited_for_and_its_reports_come_all(house: House, token: SoftToken) -> None:
    made = provisioned(house, token, Certification.L1)
    house.start_agent(made.folder)
    house.wait(lambda: len(house.reports(made.id)) > 1, "it reports")

    token.take_away()
    house.wait(lambda: "token lost" in (made.folder / "agent.log").read_text(), "the agent says that it is lost")
    before = len(house.reports(made.id))
    token.give_back()

    house.wait(lambda: len(house.reports(made.id)) > before + 2, "it reports again")


def waits(made: Made) -> bool:
    return "waiting-for-keys" in (made.folder / "agent.log").read_text()


def test_an_agent_that_starts_without_its_token_waits_for_it(house: House, token: SoftToken) -> None:
    made = provisioned(house, token, Certification.L1)
    token.take_away()
    agent = house.start_agent(made.folder)
    house.wait(lambda: waits(made), "the agent says that it waits")
    assert agent.poll() is None
    token.give_back()

    house.wait(lambda: house.reports(made.id), "it reports")


def test_an_agent_that_is_given_a_wrong_pin_tries_it_once_and_waits_for_another(house: House, token: SoftToken) -> None:
    made, right = provisioned(house, token, Certification.L1), token.pin.read_text()
    token.pin.write_text("0000\n")
    agent = house.start_agent(made.folder)
    house.wait(lambda: "not tried again" in (made.folder / "agent.log").read_text(), "it waits for another PIN")
    token.pin.write_text(right)

    house.wait(lambda: house.reports(made.id), "it reports")
    assert agent.poll() is None
    assert (made.folder / "agent.log").read_text().count("PinIncorrect") == 1


def test_an_agent_that_waits_for_its_token_ends_when_it_is_told_to(house: House, token: SoftToken) -> None:
    made = provisioned(house, token, Certification.L1)
    token.take_away()
    agent = house.start_agent(made.folder)
    house.wait(lambda: waits(made), "the agent says that it waits")
    agent.terminate()
    ended = agent.wait(60)
    token.give_back()

    assert ended == 0


def test_the_doctor_looks_into_the_token_and_says_what_it_cannot_do(house: House, token: SoftToken) -> None:
    made = provisioned(house, token, Certification.L1)
    found = {one.check: one for one in examine(from_folder(made.folder))}
    assert (found["device-key"].ok, found["device-key"].detail) == (
        True,
        "0 in token scanner: SoftHSM project SoftHSM v2",
    )

    name_keys(made.folder, device=token.uri.replace("token=scanner", "token=nobody"))
    lost = {one.check: one for one in examine(from_folder(made.folder))}["device-key"]
    assert (lost.ok, "token 'nobody': lost" in lost.detail) == (False, True)
