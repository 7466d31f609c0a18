"""Where init makes keys: what the configuration says of them, and what a person is told."""

import tomllib
from pathlib import Path

import pytest

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import open_key
from fleetward_schemas.jws import Alg, alg_of
from fleetward_server.ca_keys import NAMES, keys_of

HSM = "pkcs11:token=our%20fleet?module-path=/opt/hsm/p11.so&pin-source=/etc/pin"


def test_keys_in_files_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    keys_of("", tmp_path).make("device-ca", 2048)

    key = open_key("file:device-ca.key.pem", tmp_path)
    assert (alg_of(key), (tmp_path / "device-ca.key.pem").stat().st_mode & 0o777) == (Alg.RS256, 0o600)


def test_files_are_no_hsm_and_a_person_is_told(tmp_path: Path) -> None:
    assert "no HSM" in keys_of("", tmp_path).warning
    assert "no HSM" in keys_of(HSM.replace("p11.so", "libsofthsm2.so"), tmp_path).warning
    assert keys_of(HSM, tmp_path).warning == ""


def test_the_configuration_names_every_key_of_a_token_and_no_pin(tmp_path: Path) -> None:
    table = tomllib.loads(keys_of(HSM, tmp_path).table)

    expected = {name.replace("-", "_"): HSM.replace("?", f";object={name}?") for name in NAMES}
    assert table == expected


def test_a_relative_pin_source_starts_where_the_command_was_given(tmp_path: Path) -> None:
    table = tomllib.loads(keys_of(HSM.replace("/etc/pin", "pin"), tmp_path).table)

    assert table["root"].endswith(f"pin-source={Path.cwd() / 'pin'}")


@pytest.mark.parametrize("uri", [HSM.replace("?", ";object=a?"), HSM.replace("?", ";id=%01?"), "file:pki"])
def test_a_token_is_named_and_nothing_else(tmp_path: Path, uri: str) -> None:
    with pytest.raises(KeyUnavailable, match=r"name the token alone|not a pkcs11"):
        keys_of(uri, tmp_path)
