"""The broker's configuration: what it takes, and how it says what it does not take."""

from pathlib import Path

import pytest

from fleetward_broker.embedded.config import SERVER_LIMITS, BadConfig, Limits, load
from fleetward_schemas.topics import Role

LEAST = """
[listen]
host = "127.0.0.1"
port = 0
[tls]
certificate = "pki/broker.pem"
key = "pki/broker.key.pem"
roots = "pki/root.pem"
crls = ["pki/a.crl.pem", "/elsewhere/b.crl.pem"]
[store]
path = "broker.db"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "broker.toml"
    path.write_text(text)
    return path


def test_paths_start_at_the_file(tmp_path):
    config = load(written(tmp_path, LEAST))
    assert config.store == tmp_path / "broker.db"
    assert config.tls.crls == (tmp_path / "pki/a.crl.pem", Path("/elsewhere/b.crl.pem"))


def test_what_is_not_said_has_its_default(tmp_path):
    assert load(written(tmp_path, LEAST)).limits == Limits()


def test_a_limit_that_is_said_changes_that_one_alone(tmp_path):
    limits = load(written(tmp_path, LEAST + "[limits]\nconnect_s = 3\n[limits.server]\nwindow = 7\n")).limits
    assert (limits.connect_s, limits.of(Role.SERVER).window) == (3, 7)
    assert limits.of(Role.SERVER).queue_messages == SERVER_LIMITS.queue_messages
    assert limits.of(Role.DEVICE) == Limits().device


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST.replace("port = 0", 'port = "8883"'), "listen.port: expected an integer 0..65535, found '8883'"),
        (LEAST.replace("port = 0", "port = true"), "listen.port: expected an integer 0..65535, found True"),
        (LEAST.replace('"127.0.0.1"', '""'), "listen.host: expected a text, found ''"),
        (LEAST.replace("crls = [", "crls = [1, "), "tls.crls: expected a list of PEM files"),
        (LEAST + "[limits]\nconnect_s = 0\n", "limits.connect_s: expected an integer 1.."),
        (LEAST + "[limits]\nspeed = 1\n", "limits.speed: unknown, expected one of"),
        (
            LEAST + "[limits.device]\nwindow = 40000\n",
            "limits.device.window: expected an integer 1..32767, found 40000",
        ),
        (LEAST + "[limits]\ndevice = 5\n", "limits.device: expected a table, found 5"),
        (LEAST + '[log]\nlevel = "loud"\n', "log.level: expected debug | info | warning | error, found 'loud'"),
        (LEAST + '[log]\nformat = "xml"\n', "log.format: expected text | json, found 'xml'"),
        ("", "listen: expected a table, found nothing"),
        ("[", "not TOML"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_expectation(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(BadConfig) as bad:
        load(path)
    assert str(bad.value).startswith(f"{path}: ")
    assert said in str(bad.value)
    assert "\n" not in str(bad.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")
