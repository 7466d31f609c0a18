"""How MOSIP is told, and what its answers mean: bodies and paths of each profile, codes, searches."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Certification, Purpose
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64url
from fleetward_server.mosip import answers
from fleetward_server.mosip.answers import Fault, Meaning, faults, judged, meaning
from fleetward_server.mosip.exchange import Answer
from fleetward_server.mosip.profiles import Told, about, code_found, hotlist_id, is_fresh
from fleetward_server.mosip.queue import Act
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.signing import loose, read_unsigned_answer
from tests.mosip import NOW, Scanner, task, voice


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
