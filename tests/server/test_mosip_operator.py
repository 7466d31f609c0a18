"""What an operator does about MOSIP: the table in ``fleetward.toml``, what lies aside, what ``doctor`` says."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleetward_schemas.identity import Environment
from fleetward_server import doctor
from fleetward_server.changes import PutDevice
from fleetward_server.cli.app import build
from fleetward_server.config import ConfigProblem, load
from fleetward_server.init import Wish
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.queue import TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.store import open_store
from tests.mosip import NOW, Scanner, task
from tests.ready import ready_provider

GOOD = '[provider]\nname = "Acme"\nid = "acme"\nenvironment = "Developer"\n'
MOSIP = '[mosip]\nurl = "https://mosip.example"\nclient_id = "us"\nanchors = "a.pem"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mosip]\nprofile = "pms"\n', "expected one of off, crypto-only, pms-1.1, masterdata-1.1"),
        ("[mosip]\n", "url = '': expected https://"),
        (MOSIP.replace("https", "http"), "expected https://"),
        (MOSIP.replace("https://", "https://user@"), "expected https://"),
        (MOSIP.replace('client_id = "us"\n', ""), "client_id is missing"),
        (MOSIP + 'login = "ldap"\n', "expected one of authmanager, keycloak"),
        (MOSIP + "timeout_s = 0\n", "expected 1..300"),
        (MOSIP.replace('anchors = "a.pem"\n', 'profile = "pms-1.1"\n'), "anchors is missing"),
        (MOSIP.replace('anchors = "a.pem"\n', 'domain_uris = ["x"]\n'), "anchors is missing"),
        (MOSIP + 'domain_uris = ["https://id example"]\n', "domain_uris holds 'https://id example'"),
        (MOSIP + 'domain_uris = [""]\n', "domain_uris holds ''"),
        (MOSIP + f'domain_uris = ["{257 * "x"}"]\n', "1..256 printable"),
        (MOSIP + 'domain_uris = ["x", "x"]\n', "each once"),
        (MOSIP + f"domain_uris = {[str(one) for one in range(17)]}\n", "at most 16"),
        (MOSIP + 'encryption = ["ida", "x"]\n', "encryption holds 'x'"),
        (MOSIP + 'encryption = "ida"\n', "expected a list of texts"),
        (MOSIP + 'encryption = ["file"]\n', "encryption_file is missing"),
        (MOSIP + 'secret = "x"\n', "unknown key 'secret'"),
    ],
)
def test_a_wrong_mosip_table_is_named_with_what_was_expected(tmp_path, text, said):
    (tmp_path / "fleetward.toml").write_text(GOOD + text)
    with pytest.raises(ConfigProblem) as problem:
        load(tmp_path)
    assert said in str(problem.value)
    assert "[mosip]" in str(problem.value)


def test_without_the_table_there_is_no_mosip_and_with_it_the_newest(tmp_path):
    (tmp_path / "fleetward.toml").write_text(GOOD)
    assert not load(tmp_path).mosip.on
    (tmp_path / "fleetward.toml").write_text(GOOD + MOSIP)
    assert load(tmp_path).mosip.profile == Profile.CRYPTO_ONLY


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    (tmp_path / "fleetward.toml").write_text(GOOD + MOSIP + 'profile = "pms-1.1"\n')
    with open_store(tmp_path / "server.db", create=True) as store, store.unit() as unit:
        for number, state in ((1, TaskState.DEAD), (2, TaskState.DEAD), (3, TaskState.DONE)):
            row = Scanner(number).row()
            refused = {"code": "PMS_AUT_018", "detail": "device detail not found", "refusals": 3}
            unit.apply([PutDevice(row)])
            unit.put_mosip_task(task(state=state, device_id=row.id, **(refused if state == "dead" else {})))
    return tmp_path


def told(folder: Path, *words: str, code: int = 0) -> Any:
    shown = CliRunner().invoke(build(), ["mosip", *words, "--dir", str(folder), "--json"])
    assert shown.exit_code == code, shown.output
    return json.loads(shown.stdout or "null")


def test_an_operator_sees_what_was_refused_with_its_code_and_has_it_told_again(provider):
    status = told(provider, "status")
    assert status["tasks"] == {"register dead": 2, "register done": 1}
    assert status["last_refusal"].startswith("PMS_AUT_018: device detail not found")
    assert status["reached"] is None
    assert [(row["number"], row["code"]) for row in told(provider, "queue")] == [(2, "PMS_AUT_018"), (1, "PMS_AUT_018")]
    (again,) = told(provider, "retry", "1", "--device-code", "c", "--reason", "approved now")
    assert (again["state"], again["device_code"]) == ("waiting", "c")
    assert [row["number"] for row in told(provider, "retry", "--all")] == [2]
    assert told(provider, "queue", "--state", "dead") == []
    with open_store(provider / "server.db") as store:
        (link,) = store.history(Scanner(1).id)
    assert (link.entry.action, link.entry.reason) == ("mosip-retried", "approved now")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("retry",), 2),
        (("retry", "1", "--all"), 2),
        (("retry", "1", "--device-code", "k\u00f6d"), 2),
        (("retry", "1", "--device-code", "c" * 37), 2),
        (("retry", "--all", "--device-code", "x"), 2),
        (("retry", "9"), 3),
        (("retry", "3"), 5),
        (("queue", "--state", "ded"), 2),
    ],
)
def test_what_cannot_be_told_again_says_so(provider, words, code):
    told(provider, *words, code=code)


def test_all_that_was_told_of_one_device_can_be_listed(provider):
    assert [row["state"] for row in told(provider, "queue", "--device", "SN-0003")] == ["done"]


def found(folder: Path) -> dict[str, tuple[str, str]]:
    return {one.part: (str(one.health), one.detail) for one in doctor.examine(folder) if one.part.startswith("mosip")}


def test_doctor_looks_at_all_that_mosip_needs(tmp_path):
    ready_provider(tmp_path, Wish(port=0))
    assert found(tmp_path) == {}
    with (tmp_path / "fleetward.toml").open("a") as file:
        file.write(MOSIP + 'profile = "pms-1.1"\ndomain_uris = ["https://id.example.org"]\n')
    bad = found(tmp_path)
    assert {part: health for part, (health, _) in bad.items()} == {
        "mosip: provider's key": "ok",
        "mosip: secret": "failure",
        "mosip: anchors": "failure",
        "mosip: queue": "ok",
        "mosip: encryption for https://id.example.org": "warning",
    }
    (tmp_path / "mosip.secret").write_text("s")
    (tmp_path / "mosip.secret").chmod(0o600)
    (tmp_path / "a.pem").write_bytes((tmp_path / "pki" / "root.pem").read_bytes())
    good = found(tmp_path)
    assert (good["mosip: secret"][0], good["mosip: anchors"]) == ("ok", ("ok", "1 certificates"))
    (tmp_path / "mosip.json").write_text('{"reached": false, "code": "bad-tls", "detail": "x", "since": "y"}')
    assert found(tmp_path)["mosip: reached"] == ("warning", "bad-tls: x (since y)")


def test_doctor_tells_what_lies_aside_and_whose_certificate_is_missing(tmp_path):
    ready_provider(tmp_path, Wish(port=0))
    with (tmp_path / "fleetward.toml").open("a") as file:
        file.write(MOSIP + 'certificate = "pki/service-ca.pem"\n')
    row = Scanner(1).row()
    with open_store(tmp_path / "server.db") as store, store.unit() as unit:
        unit.apply([PutDevice(row)])
        unit.put_mosip_task(task(state=TaskState.DEAD, device_id=row.id))
    said = found(tmp_path)
    assert said["mosip: queue"] == ("warning", "1 refused; fleetward mosip queue --state dead")
    assert said["mosip: provider's key"][0] == "failure"
    assert "another key" in said["mosip: provider's key"][1]


def test_encryption_certificates_are_listed_with_why_one_is_missing(provider):
    assert told(provider, "certificates") == []
    row = EncryptionCertificate(Environment.DEVELOPER, "https://a", NOW, failures=1, code="KER-KMS-002", detail="none")
    with open_store(provider / "server.db") as store, store.unit() as unit:
        unit.put_encryption_certificate(row)
    (shown,) = told(provider, "certificates")
    assert (shown["domain_uri"], shown["thumbprint"], shown["code"]) == ("https://a", None, "KER-KMS-002")
