"""Configuration is read strictly: what nobody knows is an error that names the file, the line and the nearest key."""

import json
from pathlib import Path

import pytest

from fleetward_agent.assembly import options_of
from fleetward_agent.config import ConfigProblem, from_folder, load
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.jws import Alg

IDENTITY = {
    "serialNo": "SN-1",
    "make": "ACME",
    "model": "F-100",
    "type": "Finger",
    "deviceSubType": "Slap",
    "deviceProvider": "Example",
    "deviceProviderId": "example",
    "certification": "L0",
    "purpose": "Registration",
}
CONNECTION = {"host": "broker.example", "port": 8884, "serverName": "mqtt.example", "env": "Staging"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "identity.json").write_text(json.dumps(IDENTITY))
    (tmp_path / "connection.json").write_text(json.dumps(CONNECTION))
    return tmp_path


def toml(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_a_provisioned_folder_needs_no_file(folder: Path) -> None:
    config = from_folder(folder)

    assert (config.server.host, config.server.port, config.server.name) == ("broker.example", 8884, "mqtt.example")
    assert (config.server.env, config.keys.device_alg) == (Environment.STAGING, Alg.RS256)
    assert (config.identity.certification, config.identity.purpose) == (Certification.L0, Purpose.REGISTRATION)
    assert (config.state_dir, config.provider_root) == (folder / "state", folder / "provider-root.pem")


def test_a_file_says_the_rest(folder: Path) -> None:
    text = '[server]\nhost = "h"\nenv = "Production"\n[keys]\ndevice_alg = "EdDSA"\n[limits]\noutbox_rows = 200\n'
    text += "[clock]\nneed_ms = 50\n"
    config = load(toml(folder, text))

    assert (config.server.host, config.server.port, config.server.env) == ("h", 8883, Environment.PRODUCTION)
    assert (config.keys.device_alg, config.limits.outbox_rows) == (Alg.EDDSA, 200)
    assert (options_of(config).need_ms, options_of(config).drift_ppm) == (50, 200)


def test_a_file_in_the_folder_wins(folder: Path) -> None:
    toml(folder, '[server]\nhost = "other"\n')

    assert from_folder(folder).server.host == "other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[server]\nhost = "h"\nprot = 1\n', r"agent.toml:3: unknown key 'prot'; did you mean 'port'"),
        ('[sever]\nhost = "h"\n', r"agent.toml:1: unknown key 'sever'; did you mean 'server'"),
        ('[server]\nhost = "h"\n[log]\nzzz = 1\n', r"agent.toml:4: unknown key 'zzz'; known: level, format"),
        ("[server]\n", r"\[server\] needs host"),
        ('[server]\nhost = "h"\n[clock]\nneed_ms = 4\n', r"\[clock\] need_ms = 4: expected 5..10000"),
        ('[server]\nhost = "h"\n[clock]\ndrift_ppm = 5001\n', r"\[clock\] drift_ppm = 5001: expected 1..5000"),
        ('[server]\nhost = "h"\n[limits]\ntelemetry_days = 0\n', r"telemetry_days = 0: expected 1..3650"),
        ('[server]\nhost = "h"\n[budget]\nbytes_per_day = -1\n', r"bytes_per_day = -1: expected 0.."),
        ('[server]\nhost = "h"\n[budget]\nper_day = 1\n', r"unknown key 'per_day'"),
        ('[server]\nhost = "h"\nport = "1"\n', r"\[server\] port = '1': expected int"),
        ('[server]\nhost = "h"\nport = true\n', r"\[server\] port = True: expected int"),
        ('[server]\nhost = "h"\nport = 70000\n', r"port = 70000: expected 1..65535"),
        ('[server]\nhost = "h"\n[keys]\ntransport = "chip"\n', r"transport = 'chip': expected file or tpm"),
        ('[server]\nhost = "h"\n[keys]\ntransport = "tpm"\n', r"needs transport_alg = 'RS256': a TPM has RSA alone"),
        ('[server]\nhost = "h"\nkeep_alive_s = 90\n', r"keep_alive_s = 90: expected 5..60"),
        ('[server]\nhost = "h"\nenv = "Prod"\n', r"env = 'Prod': expected one of Staging"),
        ('[server]\nhost = "h"\n[keys]\ndevice_alg = "ES256"\n', r"device_alg = 'ES256': expected one of"),
        ('[server]\nhost = "h"\n[log]\nlevel = "loud"\n', r"level = 'loud': expected one of"),
        ("server = 1\n", r"\[server\] must be a table"),
        ("[server\n", r"agent.toml: .*line 1"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigProblem, match=says):
        load(toml(folder, text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"make": ""}, r"identity.json: make"),
        ({"type": "Voice"}, r"identity.json: type"),
        ({"deviceSubType": "Full face"}, r"identity.json: .*deviceSubType of Finger"),
        ({"certification": "L2"}, r"needs certification \(L0, L1\)"),
        ({"purpose": None}, r"and purpose \(Auth, Registration\)"),
        ({"nickname": "x"}, r"identity.json: nickname"),
    ],
)
def test_an_unlawful_identity_is_named(folder: Path, change: dict[str, object], says: str) -> None:
    (folder / "identity.json").write_text(json.dumps(IDENTITY | change))

    with pytest.raises(ConfigProblem, match=says):
        from_folder(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match=r"connection.json: not there"):
        from_folder(tmp_path)


def test_a_connection_without_a_host_is_named(folder: Path) -> None:
    (folder / "connection.json").write_text("{}")

    with pytest.raises(ConfigProblem, match="needs host"):
        from_folder(folder)


def test_an_unknown_word_in_the_connection_is_named(folder: Path) -> None:
    (folder / "connection.json").write_text(json.dumps(CONNECTION | {"hots": "x"}))

    with pytest.raises(ConfigProblem, match="did you mean 'host'"):
        from_folder(folder)
