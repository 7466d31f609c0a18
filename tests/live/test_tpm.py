"""A device whose FTM key and device key are in a TPM 2.0: made there, enrolled, at work; nothing of them is outside."""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleetward_broker.pkcs11_uri import TokenUri, show_uri
from fleetward_broker.tss_keys import BEGIN
from fleetward_sandbox.provision import Made
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.jws import Alg, PublicKey
from fleetward_server.ceremony_protocol import MUST_SAY
from tests.live.house import House, name_keys
from tests.live.test_rotation import step
from tests.live.tpmhouse import BESIDE, PRIVATE_BLOB, PUBLIC_BLOB, Tpm, rate

pytestmark = [pytest.mark.live, pytest.mark.part]


@pytest.fixture(scope="module")
def tpm() -> Iterator[Tpm]:
    with tempfile.TemporaryDirectory(prefix="fw-tpm-") as folder, Tpm(Path(folder)) as made:
        yield made


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture(scope="module")
def scanner(house: House, tpm: Tpm) -> Iterator[Made]:
    """A provisioned device whose chip made its FTM key, and its agent at work."""
    made = provisioned(house, tpm, tpm.token)
    with at_work(house, made, tpm.environment):
        house.wait(lambda: house.reports(made.id), "a device with its keys in a TPM reports")
        yield made


def provisioned(house: House, tpm: Tpm, token: TokenUri, **keys: str) -> Made:
    def chip(serial: str) -> PublicKey:
        return load_pem_public_key(tpm.child("make", ftm(tpm.token, serial)).encode())  # type: ignore[return-value]

    (made,) = house.provision(1, chip=chip)
    name_keys(made.folder, ftm=ftm(token, made.identity.serialNo), device=show_uri(token), **keys)
    return made


@contextmanager
def at_work(house: House, made: Made, environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        agent = house.start_agent(made.folder)
    yield
    agent.terminate()
    agent.wait(60)


def ftm(token: TokenUri, serial: str) -> str:
    return show_uri(replace(token, label=f"ftm {serial}"))


def device_key(tpm: Tpm, made: Made) -> str:
    (name,) = tpm.child("names", made.id)
    return show_uri(replace(tpm.token, label=f"fleetward/{made.id}/{name}"))


def test_it_registers_with_no_key_of_message_or_chip_in_any_file(house: House, tpm: Tpm, scanner: Made) -> None:
    row = house.device(scanner.id)
    files = {path.name.partition("-")[0] for path in scanner.folder.rglob("*.key.pem")}

    assert row is not None
    assert row.state is State.REGISTERED
    assert files == {"factory.key.pem", "transport"}
    assert len(tpm.child("names", scanner.id)) == 1


def test_its_keys_were_made_in_the_tpm_and_cannot_leave_it(tpm: Tpm, scanner: Made) -> None:
    for uri in (device_key(tpm, scanner), ftm(tpm.token, scanner.identity.serialNo)):
        said = tpm.child("attributes", uri)
        assert {name: said[name] for name in MUST_SAY} == MUST_SAY


def test_the_tpm_itself_says_that_they_are_bound_to_it_and_only_sign(tpm: Tpm, scanner: Made, tmp_path: Path) -> None:
    """What PKCS#11 says is a library's word; these flags are inside what the TPM signs for its own use."""
    assert tpm.child("names", scanner.id)
    for blob in tpm.stored(PUBLIC_BLOB):
        (tmp_path / "public").write_bytes(bytes.fromhex(blob))
        said = tpm.run("tpm2_print", "-t", "TPM2B_PUBLIC", str(tmp_path / "public"))
        flags = set(re.findall(r"attributes:\s+value: (\S+)", said)[0].split("|"))
        assert {"fixedtpm", "fixedparent", "sensitivedataorigin", "sign"} <= flags
        assert not flags & {"decrypt", "restricted"}
        assert re.search(r"bits: 2048", said)


def test_a_key_beside_the_first_is_gone_when_it_is_destroyed(house: House, tpm: Tpm, scanner: Made) -> None:
    """Not of the token alone: of the file in which its module keeps what the TPM wrapped."""
    before = tpm.stored(PRIVATE_BLOB)
    names = tpm.child("make-beside", scanner.id)
    (wrapped,) = tpm.stored(PRIVATE_BLOB) - before
    assert (BESIDE in names, wrapped.encode() in tpm.store.read_bytes()) == (True, True)

    assert tpm.child("destroy-beside", scanner.id) == [name for name in names if name != BESIDE]
    assert tpm.child("destroy-beside", scanner.id) == [name for name in names if name != BESIDE]

    assert tpm.stored(PRIVATE_BLOB) == before
    assert [path.name for path in tpm.store.parent.iterdir() if wrapped.encode() in path.read_bytes()] == []
    count = len(house.reports(scanner.id))
    house.wait(lambda: len(house.reports(scanner.id)) > count + 1, "the agent goes on with its own key")


def test_signing_rates_of_tpm_and_token_are_told(
    tpm: Tpm, scanner: Made, hsm: SoftToken, figure: Callable[[str], None]
) -> None:
    chip, token = tpm.child("rate", device_key(tpm, scanner))["per_s"], rate(hsm.key(Alg.RS256))["per_s"]
    figure(f"RSA-2048 of 400 bytes: TPM (swtpm) {chip:.0f}/s, SoftHSM2 {token:.0f}/s")

    assert min(chip, token) > 1


def test_a_line_is_opened_by_a_transport_key_that_is_in_the_tpm_too(house: House, tpm: Tpm) -> None:
    made = provisioned(house, tpm, tpm.served, transport="tpm", transport_alg="RS256")
    keys = made.folder / "state" / "keys"
    with at_work(house, made, tpm.beside_provider):
        house.wait(lambda: house.reports(made.id), "a device with its transport key in a TPM reports")
        (before,) = keys.iterdir()
        assert (before.name.endswith(".tss2.pem"), before.read_bytes().startswith(BEGIN)) == (True, True)

        order = house.operator.send_command(made.id, "rotate-key", {}, 600, "test")
        house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "it has rotated")
        house.wait(lambda: len(list(keys.iterdir())) == 1, "its old transport key is gone")
        (after,) = keys.iterdir()
        assert after.name != before.name
        assert after.read_bytes().startswith(BEGIN)
        count = len(house.reports(made.id))
        house.wait(lambda: len(house.reports(made.id)) > count, "it goes on")


def test_its_keys_change_hands_inside_the_tpm_and_the_old_one_is_gone(house: House, tpm: Tpm, scanner: Made) -> None:
    (old,) = tpm.child("names", scanner.id)
    wrapped, chip = blob_of(tpm, device_key(tpm, scanner)), blob_of(tpm, ftm(tpm.token, scanner.identity.serialNo))
    order = house.operator.send_command(scanner.id, "rotate-key", {}, 600, "test")
    house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "it has rotated")
    house.wait(lambda: tpm.child("names", scanner.id) not in ([old], []), "its old key is gone")
    house.wait(lambda: len(tpm.child("names", scanner.id)) == 1, "one key is left")
    count = len(house.reports(scanner.id))

    house.wait(lambda: len(house.reports(scanner.id)) > count + 1, "it goes on under its new key")
    assert tpm.child("names", scanner.id) != [old]
    assert wrapped.encode() not in tpm.store.read_bytes()
    assert blob_of(tpm, ftm(tpm.token, scanner.identity.serialNo)) == chip
    assert tpm.child("attributes", device_key(tpm, scanner))["never-extractable"] == "yes"


def test_a_retired_device_leaves_nothing_in_the_tpm_but_its_chips_key(house: House, tpm: Tpm, scanner: Made) -> None:
    wrapped, before = blob_of(tpm, device_key(tpm, scanner)), tpm.stored(PRIVATE_BLOB)
    order = house.operator.send_command(scanner.id, "retire", {}, 600, "test")
    house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "its last word is heard")

    house.wait(lambda: tpm.child("names", scanner.id) == [], "its device key is gone")
    house.wait(lambda: not list((scanner.folder / "state" / "keys").iterdir()), "its transport key too")
    assert wrapped.encode() not in tpm.store.read_bytes()
    assert tpm.stored(PRIVATE_BLOB) == before - {wrapped}
    assert blob_of(tpm, ftm(tpm.token, scanner.identity.serialNo)) in before


def blob_of(tpm: Tpm, uri: str) -> str:
    """Return a key's private half as the TPM wrapped it."""
    (found,) = tpm.stored(PRIVATE_BLOB, label=tpm.child("attributes", uri)["label"])
    return found
