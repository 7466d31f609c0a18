"""A provider whose keys are in a token; pulled, it costs certificates and nothing else; it comes back by itself."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_sandbox.mosip.signatures import read_signed
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_server import doctor
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.health import read_health
from fleetward_server.init import Wish, make_provider
from fleetward_server.mosip.signing import open_seal
from tests.live.house import House, alive

pytestmark = [pytest.mark.live, pytest.mark.part]
Tokens = Callable[[str], SoftToken]


@pytest.fixture(scope="module")
def token(tokens: Tokens) -> SoftToken:
    return tokens("provider")


@pytest.fixture(scope="module")
def house(token: SoftToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house"), hsm=token.uri) as made:
        yield made


def is_registered(house: House, device_id: str) -> bool:
    row = house.device(device_id)
    return row is not None and row.state is State.REGISTERED


def held(house: House) -> int:
    """Return how often the server could not certify."""
    return (house.folder / "server.log").read_text().count("not certified")


def findings(house: House) -> dict[str, doctor.Finding]:
    return {found.part: found for found in doctor.examine(house.folder)}


def test_no_key_of_an_authority_and_no_pin_is_in_the_providers_folder(house: House, token: SoftToken) -> None:
    keys = {path.name for path in house.folder.rglob("*.key.pem")}
    texts = [path.read_text() for path in house.folder.rglob("*.toml")]

    assert keys == {"broker.key.pem", "server.key.pem"}
    assert not any(token.pin.read_text().strip() in text for text in texts)
    assert findings(house)["key of device-ca"].detail.startswith("pkcs11:token=provider;object=device-ca?")


@pytest.mark.parametrize("level", list(Certification))
def test_devices_are_certified_by_the_token(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    house.start_agent(made.folder)

    house.wait(lambda: house.reports(made.id), f"an {level} reports")
    house.wait(lambda: not read_health(house.folder), "the server is ready")
    assert is_registered(house, made.id)


def test_a_token_pulled_under_load_costs_certificates_alone_and_all_resumes_by_itself(
    house: House, token: SoftToken
) -> None:
    old, *new = house.provision(4)
    house.start_agent(old.folder)
    house.wait(lambda: house.reports(old.id), "a device reports")
    server, reported = house.found()["server"], len(house.reports(old.id))

    token.take_away()
    for one in new:
        house.start_agent(one.folder)
    house.wait(lambda: held(house) >= len(new), "enrolments are held")
    house.wait(lambda: "lost" in read_health(house.folder), "the server says why it is not ready")
    house.wait(lambda: len(house.reports(old.id)) > reported + 2, "the certified go on reporting")
    said, states = findings(house), [is_registered(house, one.id) for one in new]
    token.give_back()

    assert (said["ready"].health, said["key of device-ca"].health) == (doctor.Health.FAILS, doctor.Health.FAILS)
    assert states == [False] * len(new)
    house.wait(lambda: all(is_registered(house, one.id) for one in new), "the held are certified")
    house.wait(lambda: not read_health(house.folder), "the server is ready again")
    assert house.found()["server"] == server
    assert alive(server)


def test_a_server_that_starts_without_its_token_waits_for_it(house: House, token: SoftToken) -> None:
    (made,) = house.provision(1)
    house.start_agent(made.folder)
    house.wait(lambda: house.reports(made.id), "a device reports")

    token.take_away()
    house.kill("server")
    house.wait(lambda: "lost" in read_health(house.folder), "the new server says what it waits for")
    before = len(house.reports(made.id))
    token.give_back()

    house.wait(lambda: not read_health(house.folder), "the server is ready again")
    house.wait(lambda: len(house.reports(made.id)) > before, "the device reports")


def test_a_server_that_is_given_a_wrong_pin_tries_it_once_and_waits_for_another(house: House, token: SoftToken) -> None:
    right = token.pin.read_text()
    token.pin.write_text("0000\n")
    house.kill("server")
    house.wait(lambda: "not tried again" in read_health(house.folder), "the new server waits for another PIN")
    tries = (house.folder / "server.log").read_text().count("PinIncorrect")

    token.pin.write_text(right)

    house.wait(lambda: not read_health(house.folder), "the server is ready again")
    assert tries == 1


def test_a_token_that_holds_a_provider_is_not_taken_for_another(house: House, token: SoftToken, tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="holds keys named root, device-ca, factory-ca, service-ca already"):
        make_provider(tmp_path / "p", Wish(port=0, hsm=token.uri), datetime.now(UTC))

    assert not (tmp_path / "p").exists()


def test_what_goes_to_mosip_is_signed_in_the_token(house: House) -> None:
    config = load(house.folder)
    seal = open_seal(config)

    signed = read_signed(seal.sign({"deviceCode": "c"}), ("PMS_AUT_022", ""), ("PMS_AUT_016", ""))

    assert signed.payload == {"deviceCode": "c"}
    assert signed.signer == open_issuer(config, "device-ca").certificate
    assert config.keys.device_ca.startswith("pkcs11:")


def test_mosips_task_waits_while_the_token_is_away(house: House, token: SoftToken) -> None:
    seal = open_seal(load(house.folder))
    token.take_away()
    try:
        with pytest.raises(KeyUnavailable):
            seal.sign({"deviceCode": "c"})
    finally:
        token.give_back()

    def signs() -> bool:
        with suppress(KeyUnavailable):
            return seal.sign({"deviceCode": "c"}).count(".") == 2
        return False

    house.wait(signs, "the token signs again")
