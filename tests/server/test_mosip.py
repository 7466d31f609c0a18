"""MOSIP's connector without a network: what is to be told, what codes mean, how it is said, what an operator may do."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64url
from fleetward_schemas.topics import DeviceId
from fleetward_server import doctor
from fleetward_server.changes import PutDevice
from fleetward_server.cli.app import build
from fleetward_server.config import ConfigProblem, load
from fleetward_server.init import Wish, make_provider
from fleetward_server.mosip import answers, queue
from fleetward_server.mosip.answers import Fault, Meaning, faults, judged, meaning
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.exchange import Answer
from fleetward_server.mosip.profiles import Told, Voice, about, code_found, hotlist_id, is_fresh
from fleetward_server.mosip.queue import NEXT, Act, Due, Task, TaskEvent, TaskState, due, new_task
from fleetward_server.mosip.settings import MosipTable, Profile
from fleetward_server.mosip.signing import ProviderSeal, loose, read_unsigned_answer
from fleetward_server.store import Store, open_store
from tests.mosip import Scanner, authority

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
GOOD = '[provider]\nname = "Acme"\nid = "acme"\nenvironment = "Developer"\n'
MOSIP = '[mosip]\nurl = "https://mosip.example"\nclient_id = "us"\nanchors = "a.pem"\n'
DEVICE = DeviceId("a" * 26)
TABLE: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (TaskState.WAITING, TaskEvent.ASK): TaskState.ASKING,
    (TaskState.WAITING, TaskEvent.AGAIN): TaskState.WAITING,
    (TaskState.WAITING, TaskEvent.DONE): TaskState.DONE,
    (TaskState.WAITING, TaskEvent.REFUSE): TaskState.DEAD,
    (TaskState.WAITING, TaskEvent.DROP): TaskState.DROPPED,
    (TaskState.ASKING, TaskEvent.ASK): TaskState.ASKING,
    (TaskState.ASKING, TaskEvent.AGAIN): TaskState.WAITING,
    (TaskState.ASKING, TaskEvent.DONE): TaskState.DONE,
    (TaskState.ASKING, TaskEvent.REFUSE): TaskState.DEAD,
    (TaskState.ASKING, TaskEvent.DROP): TaskState.DROPPED,
    (TaskState.DEAD, TaskEvent.RETRY): TaskState.WAITING,
    (TaskState.DEAD, TaskEvent.DROP): TaskState.DROPPED,
}


def task(act: Act = Act.REGISTER, state: TaskState = TaskState.WAITING, **changes: Any) -> Task:
    return replace(new_task(DEVICE, Profile.PMS, act, NOW), state=state, **changes)


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("event", TaskEvent)
def test_a_task_moves_as_the_table_says_and_no_other_way(state, event):
    if (state, event) in TABLE:
        assert queue.advance(task(state=state), event, NOW).state is TABLE[state, event]
    else:
        with pytest.raises(LocalMistake, match=f"{event} while {state}"):
            queue.advance(task(state=state), event, NOW)
    assert NEXT.keys() == set(TaskState)


REGISTER, DEREGISTER, HOTLIST = Due(act=Act.REGISTER), Due(act=Act.DEREGISTER), Due(act=Act.HOTLIST)
WHAT_IS_DUE = [
    # state, last task, due in 1.1, due in crypto-only
    (State.PENDING, None, Due(), Due()),
    (State.APPROVED, None, Due(), Due()),
    (State.REFUSED, None, Due(), Due()),
    (State.REGISTERED, None, REGISTER, REGISTER),
    (State.REGISTERED, task(), Due(), Due()),
    (State.REGISTERED, task(state=TaskState.DONE), Due(), Due()),
    (State.REGISTERED, task(state=TaskState.DEAD), Due(), Due()),
    (State.REGISTERED, task(Act.DEREGISTER), Due(), Due()),
    (State.REGISTERED, task(Act.DEREGISTER, TaskState.DONE), REGISTER, REGISTER),
    (State.REGISTERED, task(Act.HOTLIST, TaskState.DONE), Due(act=Act.UNBLOCK), Due(act=Act.UNBLOCK)),
    (State.REGISTERED, task(Act.HOTLIST), Due(), Due()),
    (State.REGISTERED, task(Act.UNBLOCK, TaskState.DONE), Due(), Due()),
    (State.QUARANTINED, None, Due(), Due()),
    (State.QUARANTINED, task(state=TaskState.DONE), Due(), Due()),
    (State.REVOKED, task(Act.UNBLOCK, TaskState.DONE), Due(), HOTLIST),
    (State.REVOKED, None, Due(), HOTLIST),
    (State.RETIRED, task(), Due(drop=True), Due(drop=True, act=Act.HOTLIST)),
    (State.RETIRED, task(attempts=1), Due(drop=True, act=Act.DEREGISTER), Due(drop=True, act=Act.HOTLIST)),
    (State.RETIRED, task(state=TaskState.ASKING), Due(drop=True), Due(drop=True, act=Act.HOTLIST)),
    (State.REVOKED, task(state=TaskState.DONE), DEREGISTER, HOTLIST),
    (State.REVOKED, task(state=TaskState.DEAD, attempts=1), Due(), HOTLIST),
    (State.REVOKED, task(state=TaskState.DROPPED), Due(), HOTLIST),
    (State.REVOKED, task(Act.DEREGISTER), Due(), Due(drop=True, act=Act.HOTLIST)),
    (State.REVOKED, task(Act.DEREGISTER, TaskState.DONE), Due(), HOTLIST),
    (State.REVOKED, task(Act.HOTLIST), Due(), Due()),
    (State.REVOKED, task(Act.HOTLIST, TaskState.DONE), Due(), Due()),
    (State.REVOKED, task(Act.HOTLIST, TaskState.DEAD), Due(), Due()),
]


@pytest.mark.parametrize(("state", "last", "in_1_1", "crypto_only"), WHAT_IS_DUE)
def test_what_is_due_follows_from_the_register_and_the_last_thing_told(state, last, in_1_1, crypto_only):
    assert due(state, last, Profile.PMS) == in_1_1
    assert due(state, last, Profile.MASTERDATA) == in_1_1
    assert due(state, last, Profile.CRYPTO_ONLY) == crypto_only


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "server.db", create=True) as made:
        yield made


@pytest.mark.parametrize("profile", [Profile.PMS, Profile.MASTERDATA, Profile.CRYPTO_ONLY])
def test_the_store_finds_whom_a_task_is_lacking_for_and_nobody_else(store, profile):
    for number, (state, last, *_) in enumerate(WHAT_IS_DUE, 1):
        row = Scanner(number).row(state=state)
        with store.unit() as unit:
            unit.apply([PutDevice(row)])
            if last is not None:
                unit.put_mosip_task(replace(last, device_id=row.id, profile=profile))
    wanted = 3 if profile is Profile.CRYPTO_ONLY else 2
    lacking = {Scanner(number).id for number, case in enumerate(WHAT_IS_DUE, 1) if case[wanted] != Due()}
    assert {one.device_id for one in store.mosip_unlike(profile)} == lacking
    assert {one.device_id for one in store.mosip_unlike(profile, whole=False)} == lacking
    assert len(lacking) > 2


def test_a_quick_look_leaves_out_whoever_has_a_code_and_is_not_gone(store):
    rows = [Scanner(1).row(device_code="c"), Scanner(2).row(device_code="c", state=State.REVOKED)]
    with store.unit() as unit:
        unit.apply([PutDevice(row) for row in rows])
        unit.put_mosip_task(replace(task(state=TaskState.DONE), device_id=rows[1].id))
    assert {one.device_id for one in store.mosip_unlike(Profile.PMS)} == {row.id for row in rows}
    assert [one.device_id for one in store.mosip_unlike(Profile.PMS, whole=False)] == [rows[1].id]


@pytest.mark.parametrize("whole", [True, False])
def test_a_look_is_served_by_indices(store, whole):
    from sqlalchemy import text

    seen: list[str] = []
    with store._engine.connect() as connection:
        for statement in store.mosip_looks(Profile.PMS, whole=whole):
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
            seen += [str(row[-1]) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert not [line for line in seen if line.startswith("SCAN devices") and "INDEX" not in line]
    assert any("devices_without_code" in line for line in seen) is not whole


def test_another_profiles_tasks_are_not_ours(store):
    row = Scanner(1).row()
    with store.unit() as unit:
        unit.apply([PutDevice(row)])
        unit.put_mosip_task(replace(task(state=TaskState.DONE), device_id=row.id, profile=Profile.CRYPTO_ONLY))
    assert [one.last for one in store.mosip_unlike(Profile.PMS)] == [None]


def test_a_task_comes_back_as_it_was_kept(store):
    row = Scanner(1).row()
    full = task(device_id=row.id, attempts=3, refusals=2, asked="x", code="PMS_AUT_032", detail="y", device_code="z")
    with store.unit() as unit:
        unit.apply([PutDevice(row)])
        unit.put_mosip_task(full)
    assert store.mosip_tasks() == (replace(full, number=1),)
    assert store.mosip_task(1) == replace(full, number=1)
    assert store.mosip_task(2) is None
    assert store.mosip_counts() == (("pms-1.1", "register", "waiting", 1),)


@pytest.mark.parametrize(
    ("code", "text", "means"),
    [
        ("PMS_AUT_015", "Serial no and Device detail already exist", Meaning.DONE),
        ("ADM-DPM-043", "Serial no and DpId already exist", Meaning.DONE),
        ("PMS_AUT_016", "Registered device not found", Meaning.DONE),
        ("PMS_AUT_016", "error occured while saving data", Meaning.REFUSED),
        ("PMS_AUT_024", "device already deregistered", Meaning.DONE),
        ("PMS_AUT_024", "invalid environment", Meaning.REFUSED),
        ("KER-DPR-001", "No register device found", Meaning.DONE),
        ("KER-DPR-004", "Invalid environment", Meaning.REFUSED),
        ("ADM-HTL-008", "Failed to hotlist as existing hotlist is still active", Meaning.DONE),
        ("ADM-HTL-006", "Error occured while performing DB operations", Meaning.AGAIN),
        ("KER-PCM-003", "Certificate already exists in store.", Meaning.DONE),
        ("PMS_AUT_012", "Time Stamp input is 5 min after the current timestamp", Meaning.STALE),
        ("MSD-RDS-001", "Time Stamp input is 5 min after the current timestamp", Meaning.STALE),
        ("PMS_AUT_032", "Error while signing the response", Meaning.AGAIN),
        ("KER-ATH-401", "Authentication Failed", Meaning.TOKEN),
        ("PMS_AUT_018", "device detail not found", Meaning.REFUSED),
        ("XXX-1", "", Meaning.UNKNOWN),
    ],
)
def test_a_code_means_one_thing_and_two_of_them_two_by_their_text(code, text, means):
    assert meaning(Fault(code, text)) is means


def test_every_code_is_in_one_table_only():
    tables = (answers.DONE_BY_CODE, answers.STALE, answers.AGAIN, answers.TOKEN, answers.REFUSED)
    assert sum(map(len, tables)) == len(answers.BY_CODE)


def test_of_several_errors_the_worst_decides():
    late, again = Fault("PMS_AUT_012", "late"), Fault("PMS_AUT_032", "sign")
    assert judged((again, late)) == (Meaning.STALE, late)
    assert judged((late, Fault("PMS_AUT_030", "ftp"), again))[0] is Meaning.REFUSED


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"errorCode": "A-1", "message": "m"}]},
        {"errors": None, "error": [{"errorCode": "A-1", "errorMessage": "m"}]},
        {"error": {"errorCode": "A-1", "errorInfo": "m"}},
    ],
)
def test_errors_are_found_however_they_are_spelled(body):
    assert faults(Answer(200, body, {})) == (Fault("A-1", "m"),)


@pytest.mark.parametrize("body", [{"errors": "x"}, {"errors": [{"message": "x"}]}, {"errors": 7}, {"error": [None]}])
def test_an_error_that_cannot_be_read_is_one(body):
    (fault,) = faults(Answer(200, body, {}))
    assert (fault.code, meaning(fault)) == (answers.UNREADABLE, Meaning.UNKNOWN)


@pytest.mark.parametrize("body", [{}, {"errors": []}, {"errors": None}, {"error": "invalid_client"}, {"error": {}}])
def test_no_error_is_none(body):
    assert faults(Answer(200, body, {})) == ()


L0, L1 = Scanner(1), Scanner(2, Certification.L1, Purpose.AUTH)


def voice(profile: Profile) -> Voice:
    provider = authority("device", NOW)
    table = MosipTable(profile, "https://x", trust_provider_id="ftp-1")
    return Voice(table, ProviderSeal(provider.key, provider.certificate), MosipAnchors(()), "Stage")


def payload(token: str) -> dict[str, Any]:
    return dict(json.loads(loose(token.split(".")[1])))


@pytest.mark.parametrize(("scanner", "ftp"), [(L0, None), (L1, "ftp-1")])
def test_partner_management_gets_device_info_as_it_came(scanner, ftp):
    info = scanner.info(NOW)
    asked = voice(Profile.PMS).asked(task(), scanner.row(device_info=info), NOW)
    assert (asked.method, asked.path) == ("POST", "/v1/partnermanager/registereddevices")
    assert asked.body is not None
    assert asked.body | {"request": None} == {
        "id": "io.mosip.deviceregister",
        "version": "v1",
        "requesttime": show(NOW),
        "metadata": {},
        "request": None,
    }
    data = payload(asked.body["request"]["deviceData"])
    assert data == {
        "deviceId": scanner.id,
        "purpose": str(scanner.purpose),
        "deviceInfo": info,
        "foundationalTrustProviderId": ftp,
    }


def test_masterdata_gets_an_object_with_its_own_names():
    scanner = Scanner(1, digital_id_ms=False)
    asked = voice(Profile.MASTERDATA).asked(task(), scanner.row(device_info=scanner.info(NOW)), NOW)
    assert asked.path == "/v1/masterdata/registereddevices"
    assert asked.body is not None
    data = payload(asked.body["request"]["deviceData"])
    info = data["deviceInfo"]
    assert data["foundationalTrustProviderId"] == ""
    assert (info["deviceSubId"], info["timeStamp"], info["firmware"]) == ("[1,2,3]", show(NOW), "7.1")
    assert info.keys() == {"deviceSubId", "certification", "digitalId", "firmware", "deviceExpiry", "timeStamp"}
    digital = json.loads(base64.b64decode(info["digitalId"]))
    assert digital == scanner.identity.document() | {"dateTime": "2026-05-01T12:00:00.000Z"}


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        (Profile.PMS, "/v1/partnermanager/registereddevices/deregister"),
        (Profile.MASTERDATA, "/v1/masterdata/registereddevices/deregister"),
    ],
)
@pytest.mark.parametrize("scanner", [L0, L1])
def test_a_deregistration_names_code_stage_and_kind(profile, path, scanner):
    asked = voice(profile).asked(task(Act.DEREGISTER, device_code="c"), scanner.row(), NOW)
    assert asked.path == path
    assert asked.body is not None
    request = asked.body["request"]
    assert payload(request["device"]) == {"deviceCode": "c", "env": "Stage"}
    assert request["isItForRegistrationDevice"] is (scanner is L0)


def test_the_hotlist_knows_a_device_by_three_words_in_a_row():
    assert hotlist_id(L0.row()) == "SN-0001AcmeSlap-4"


@pytest.mark.parametrize(("act", "word"), [(Act.HOTLIST, "block"), (Act.UNBLOCK, "unblock")])
def test_the_hotlist_is_told_of_one_id_in_one_object(act, word):
    asked = voice(Profile.CRYPTO_ONLY).asked(task(act), L0.row(), NOW)
    assert (asked.method, asked.path) == ("POST", f"/v1/hotlist/{word}")
    assert asked.body is not None
    status = "BLOCKED" if act is Act.HOTLIST else "UNBLOCKED"
    wish = {"id": "SN-0001AcmeSlap-4", "idType": "DEVICE", "status": status, "expiryTimestamp": None}
    assert asked.body["request"] == wish


@pytest.mark.parametrize(
    ("act", "body", "done"),
    [
        (Act.HOTLIST, {"response": {"status": "BLOCKED"}}, True),
        (Act.UNBLOCK, {"response": {"status": "UNBLOCKED"}}, True),
        (Act.UNBLOCK, {"errors": [{"errorCode": "ADM-HTL-007", "message": "No Record(s) found"}]}, True),
        (Act.HOTLIST, {"errors": [{"errorCode": "ADM-HTL-007", "message": "No Record(s) found"}]}, False),
        (Act.UNBLOCK, {"errors": [{"errorCode": "ADM-HTL-006", "message": "DB operations"}]}, False),
    ],
)
def test_what_an_answer_of_the_hotlist_says(act, body, done):
    told = voice(Profile.CRYPTO_ONLY).told(task(act), Answer(200, body, {}), NOW)
    assert (told == Told()) is done
    for wrong in ({"response": [{"status": "BLOCKED"}]}, {"response": None}, {"response": {"status": "NO"}}):
        with pytest.raises(Refused):
            voice(Profile.CRYPTO_ONLY).told(task(act), Answer(200, wrong, {}), NOW)


@pytest.mark.parametrize(
    ("age", "fresh"),
    [
        (timedelta(seconds=100), False),
        (timedelta(seconds=99), True),
        (timedelta(0), True),
        (timedelta(seconds=-239), True),
        (timedelta(seconds=-240), False),
    ],
)
def test_device_info_is_fresh_well_within_mosips_window(age, fresh):
    assert is_fresh(L0.info(NOW - age), NOW) is fresh


def test_no_device_info_is_not_fresh():
    assert not is_fresh(None, NOW)


def rows(*found: dict[str, Any]) -> Answer:
    return Answer(200, {"response": {"data": list(found)}}, {})


OURS = {"serialNo": "SN-0001", "deviceId": L0.id, "statusCode": "Registered", "code": "c"}


@pytest.mark.parametrize(
    ("found", "code", "others"),
    [
        ((), None, False),
        ((OURS,), "c", True),
        ((OURS | {"statusCode": "Retired"},), None, False),
        ((OURS | {"deviceId": "x"},), None, True),
        ((OURS | {"serialNo": "x"},), None, False),
        ((OURS, OURS | {"code": "d"}), None, True),
    ],
)
def test_a_search_is_believed_for_this_very_device_alone(found, code, others):
    row = code_found(rows(*found), L0.row())
    assert (row.code, row.others) == (code, others)


def masterdata_answer(**said: Any) -> str:
    parts = (b'{"alg":"RS256","type":"JWS"}', json.dumps(said).encode(), b"x..y")
    return ".".join(base64.b64encode(part).decode() for part in parts)


def test_masterdatas_three_segments_are_read_though_they_are_no_jws():
    identity = b64url(L0.identity.json().encode())
    text = masterdata_answer(status="REGISTERED", deviceCode="c", digitalId=identity)
    assert read_unsigned_answer(text) == {"status": "REGISTERED", "deviceCode": "c", "digitalId": identity}
    answer = Answer(200, {"response": text, "errors": None}, {})
    assert voice(Profile.MASTERDATA).told(task(), answer, NOW) == Told("c", about(L0.identity))


@pytest.mark.parametrize(
    "response",
    [
        None,
        {},
        "",
        "a.b",
        "!.!.!",
        masterdata_answer(status="OTHER", deviceCode="c"),
        masterdata_answer(status="Registered"),
        masterdata_answer(status="Registered", deviceCode="c" * 37),
        masterdata_answer(status="Registered", deviceCode="c"),
        masterdata_answer(status="Registered", deviceCode="c", digitalId=7),
    ],
)
def test_an_answer_that_says_nothing_is_refused(response):
    with pytest.raises(Refused) as refusal:
        voice(Profile.MASTERDATA).told(task(), Answer(200, {"response": response}, {}), NOW)
    assert refusal.value.code is Code.MALFORMED


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
    make_provider(tmp_path, Wish(port=0), datetime.now(UTC))
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
    make_provider(tmp_path, Wish(port=0), datetime.now(UTC))
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
