"""Messages, answers and schemas that MOSIP's projects published, each verified or refused as its note says.

They lie beside the checkout (``tests/conftest.py`` says where) and are not ours to publish: where they are missing,
this file is not collected and the summary says so. Certificates have a file of their own, ``test_mosip_certs.py``.
All of them are of the past, so the time is theirs.
"""

import base64
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
from ruamel.yaml import YAML

from fleetward_sandbox.mosip.register import Register
from fleetward_sandbox.mosip.signatures import loose, read_signed, sign_as_masterdata
from fleetward_sandbox.mosip.words import PMS, Complaint
from fleetward_schemas.certificates import read_pem_certificates
from fleetward_schemas.encryption import MosipAnchors, encrypts
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose, read_identity
from fleetward_schemas.jws import split
from fleetward_schemas.moment import parse
from fleetward_server.mosip.encryption import best, read_any
from fleetward_server.mosip.exchange import Answer
from fleetward_server.mosip.profiles import Told, info_of
from fleetward_server.mosip.queue import Act
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.signing import read_answer, read_unsigned_answer
from tests.conftest import MOSIP_VECTORS
from tests.mosip import Scanner, authority, task, voice

pytestmark = pytest.mark.live
WRONG, MALFORMED = PMS["signature"], PMS["saving"]


def notes() -> dict[str, str]:
    with (MOSIP_VECTORS / "MANIFEST.tsv").open(newline="") as lines:
        return {row["path"]: row["note"] for row in csv.DictReader(lines, delimiter="\t")}


NOTES = notes()
TOKENS = [path for path in NOTES if path.endswith(".jwt")]
VERIFIED = [path for path in TOKENS if "verify=True" in NOTES[path]]
BROKEN = [path for path in TOKENS if "verify=FAIL" in NOTES[path]]
DIGITAL_IDS = [path for path in VERIFIED if path.startswith("digitalid/")]
EXCHANGES = [path for path in NOTES if "legacy-exchange" in path]
LEGACY = [path for path in NOTES if path.endswith(".jws")]
THUMBPRINT_ONLY = [path for path in TOKENS if "x5t" in path]
GIVEN = [path for path in NOTES if "getCertificate-response" in path]
TEMPLATES = [path for path in NOTES if path.startswith("mockmds/") and path.endswith(".json")]
TOOLKIT = [path for path in NOTES if path.startswith("ctk-schemas") and path.endswith(".json")]
SBI = [path for path in NOTES if path.endswith(".yaml")]
DECODED = [path for path in NOTES if path.endswith(".decoded.json")]
CERTIFICATES = [path for path in NOTES if path.endswith(".pem")]
"""``test_mosip_certs.py`` looks at each."""


def text(path: str) -> str:
    return (MOSIP_VECTORS / path).read_text().strip()


def document(path: str) -> Any:
    return json.loads(text(path))


def payload(path: str) -> dict[str, Any]:
    """Return what a token's own decoding beside it says it holds."""
    found = document(str(Path(path).with_suffix(".decoded.json")))["payload"]
    assert isinstance(found, dict)
    return found


def test_nothing_in_the_list_is_left_out():
    seen = {*VERIFIED, *BROKEN, *EXCHANGES, *LEGACY, *THUMBPRINT_ONLY, *GIVEN, *TEMPLATES, *TOOLKIT, *SBI}
    assert seen | {*DECODED, *CERTIFICATES} == NOTES.keys()
    assert all((DIGITAL_IDS, BROKEN, EXCHANGES, LEGACY, THUMBPRINT_ONLY, GIVEN, TEMPLATES, TOOLKIT, SBI))


@pytest.mark.parametrize("path", VERIFIED)
def test_a_token_whose_note_says_it_verifies_does_and_holds_what_is_beside_it(path):
    signed = read_signed(text(path), WRONG, MALFORMED)
    assert signed.payload == payload(path)
    assert isinstance(signed.key, rsa_keys.RSAPublicKey)
    assert f"key={signed.key.key_size}" in NOTES[path]


@pytest.mark.parametrize("path", VERIFIED)
@pytest.mark.parametrize("segment", range(3))
def test_one_changed_character_and_it_does_not(path, segment):
    parts = text(path).split(".")
    middle = len(parts[segment]) // 2
    other = "A" if parts[segment][middle] != "A" else "B"
    parts[segment] = parts[segment][:middle] + other + parts[segment][middle + 1 :]
    with pytest.raises(Complaint):
        read_signed(".".join(parts), WRONG, MALFORMED)


@pytest.mark.parametrize("path", DIGITAL_IDS)
def test_a_digital_id_is_lawful_and_read_strictly_if_its_header_is_mosips_own(path):
    assert DigitalId.read(payload(path)).document() == payload(path)
    if "typ" in document(str(Path(path).with_suffix(".decoded.json")))["header"]:
        assert read_identity(text(path)).digital_id.document() == payload(path)
    else:
        with pytest.raises(Refused) as refusal:
            read_identity(text(path))
        assert refusal.value.code is Code.BAD_DIGITAL_ID


@pytest.mark.parametrize("path", BROKEN)
def test_a_broken_token_is_refused_by_everybody_and_breaks_nobody(path):
    for read in (lambda t: read_signed(t, WRONG, MALFORMED), read_identity, lambda t: split(t.encode()).header["x"]):
        with pytest.raises((Complaint, Refused, KeyError)):
            read(text(path))
    with pytest.raises(Refused):
        read_answer(text(path), MosipAnchors(()), datetime(2020, 4, 1, tzinfo=UTC))


NESTED = "registration/pms-devicedata.jwt"


def moment() -> datetime:
    return parse(payload("registration/pms-deviceinfo.jwt")["timestamp"])


@pytest.mark.parametrize(("late", "code"), [(timedelta(seconds=1), None), (timedelta(minutes=2), "PMS_AUT_012")])
def test_a_real_registration_is_taken_in_its_own_minutes_alone(late, code):
    register = Register(strict=False)
    if code is None:
        assert register.pms_register(text(NESTED), moment() + late)["status"] == "Registered"
        assert register.known("pms", "SZ59128789884589") is not None
    else:
        with pytest.raises(Complaint, match=code):
            register.pms_register(text(NESTED), moment() + late)


def test_its_three_levels_are_one_inside_the_other_by_one_key():
    outer = read_signed(text(NESTED), WRONG, MALFORMED)
    assert outer.payload["deviceInfo"] == text("registration/pms-deviceinfo.jwt")
    inner = read_signed(outer.payload["deviceInfo"], WRONG, MALFORMED)
    assert inner.payload["digitalId"] == text("digitalid/digitalid-l0-finger-slap-ms.jwt")
    assert outer.signer == inner.signer


def test_whoever_asks_whose_certificates_these_are_refuses_it():
    with pytest.raises(Complaint, match="PMS_AUT_022"):
        Register(strict=True).pms_register(text(NESTED), moment())


def test_what_we_send_has_the_members_of_the_real_one_and_those_we_add_are_known():
    real = payload("registration/pms-deviceinfo.jwt").keys()
    ours = info_of(Scanner(1).info(moment())).document().keys()
    assert real - ours == {"deviceExpiry"}
    assert ours - real == {
        *("deviceId", "deviceCode", "deviceStatus", "serviceVersion", "specVersion", "purpose", "env"),
    }
    asked = voice(Profile.PMS).asked(task(), Scanner(1).row(device_info=Scanner(1).info(moment())), moment())
    assert asked.body is not None
    data = json.loads(loose(asked.body["request"]["deviceData"].split(".")[1]))
    assert data.keys() == payload(NESTED).keys()


@pytest.mark.parametrize("path", EXCHANGES)
def test_a_real_exchange_with_masterdata_is_answered_by_ours_in_the_same_form(path):
    exchange = document(path)
    asked, answered = exchange["request"], exchange["response"]
    assert exchange["endpoint"] == "/v1/masterdata/registereddevices"
    register = Register(environment=payload(LEGACY[0])["env"])
    # The client's clock was 20.7 seconds ahead of the server's.
    said = register.masterdata_register(asked["request"]["deviceData"], parse(answered["responsetime"]))
    real = read_unsigned_answer(answered["response"])
    assert said.keys() | {"digitalId"} == real.keys()
    assert (said["status"], said["env"], said["timeStamp"]) == (real["status"], real["env"], real["timeStamp"])
    ours = sign_as_masterdata(real, authority("device", moment()))
    assert [len(base64.b64decode(part)) > 0 for part in ours.split(".")] == [True] * 3
    assert ours.split(".")[0] == answered["response"].split(".")[0]
    assert base64.b64decode(ours.split(".")[2]).split(b".")[:2] == [b"eyJhbGciOiJSUzI1NiJ9", b""]
    assert base64.b64decode(answered["response"].split(".")[2]).split(b".")[:2] == [b"eyJhbGciOiJSUzI1NiJ9", b""]


@pytest.mark.parametrize("path", EXCHANGES)
def test_our_request_to_masterdata_has_the_members_of_the_real_one(path):
    real = json.loads(base64.b64decode(document(path)["request"]["request"]["deviceData"]))
    row = Scanner(1).row(device_info=Scanner(1).info(moment()))
    asked = voice(Profile.MASTERDATA).asked(task(), row, moment())
    assert asked.body is not None
    ours = json.loads(loose(asked.body["request"]["deviceData"].split(".")[1]))
    assert ours.keys() == real.keys()
    assert ours["deviceInfo"].keys() == real["deviceInfo"].keys()
    for member, value in real["deviceInfo"].items():
        assert type(ours["deviceInfo"][member]) is type(value), member


@pytest.mark.parametrize("path", LEGACY)
def test_an_answer_of_masterdata_is_no_jws_and_read_all_the_same(path):
    with pytest.raises(Refused):
        split(text(path).encode())
    assert read_unsigned_answer(text(path)) == payload(path)
    answer = Answer(200, {"response": text(path), "errors": None}, {})
    told = voice(Profile.MASTERDATA).told(task(), answer, moment())
    assert isinstance(told, Told)
    assert told.device_code == payload(path)["deviceCode"]
    identity = json.loads(loose(payload(path)["digitalId"]))
    assert told.about == tuple(identity[name] for name in ("deviceProviderId", "make", "model", "serialNo"))


@pytest.mark.parametrize("path", THUMBPRINT_ONLY)
def test_an_answer_that_names_a_certificate_nobody_has_is_not_believed(path):
    answer = Answer(200, {"response": text(path), "errors": None}, {})
    with pytest.raises(Refused) as refusal:
        voice(Profile.PMS).told(task(Act.DEREGISTER), answer, moment())
    assert refusal.value.code is Code.UNKNOWN_SIGNER
    assert json.loads(loose(text(path).split(".")[1])) == payload(path)


@pytest.mark.parametrize("path", GIVEN)
def test_a_certificate_that_the_keymanager_gave_is_read_and_held_against_its_dates_and_anchors(path):
    response = document(path)["response"]
    given = read_any(response["certificate"])
    assert given.not_valid_before_utc == parse(response["issuedAt"])
    assert given.not_valid_after_utc == parse(response["expiryAt"])
    inside = given.not_valid_before_utc + timedelta(days=1)
    assert best([given], MosipAnchors([given]), inside) == given
    for when in (given.not_valid_before_utc - timedelta(days=1), given.not_valid_after_utc + timedelta(days=1)):
        with pytest.raises(Refused, match="valid"):
            best([given], MosipAnchors([given]), when)
    (root,) = [path for path in NOTES if "ROOT self-signed" in NOTES[path]]
    with pytest.raises(Refused) as refusal:
        MosipAnchors(read_pem_certificates((MOSIP_VECTORS / root).read_bytes())).verify(given, inside)
    assert refusal.value.code is Code.UNKNOWN_SIGNER


def test_a_published_root_of_mosip_anchors_itself_though_it_says_little():
    (path,) = [path for path in NOTES if "ROOT self-signed" in NOTES[path]]
    (root,) = read_pem_certificates((MOSIP_VECTORS / path).read_bytes())
    assert MosipAnchors([root]).verify(root, root.not_valid_before_utc + timedelta(days=1)) == (root,)
    encrypts(root)


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_template_of_the_mock_device_becomes_lawful_once_it_is_filled_in(path):
    found = document(path)
    if not path.endswith("DigitalId.json"):
        assert set(found["deviceSubId"]) <= {"0", "1", "2", "3"}
        return
    with pytest.raises(Refused, match="dateTime"):
        DigitalId.read(found)
    DigitalId.read(found | {"dateTime": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize("path", TOOLKIT)
def test_a_schema_of_the_toolkit_is_one(path):
    jsonschema.Draft201909Validator.check_schema(document(path))


def filled(found: Any) -> Any:
    """Leave out what is empty: one description of theirs is, where a text belongs."""
    if isinstance(found, dict):
        return {name: filled(value) for name, value in found.items() if value is not None}
    return [filled(one) for one in found] if isinstance(found, list) else found


@pytest.mark.parametrize("path", SBI)
def test_a_schema_of_the_documentation_is_one(path):
    found = filled(YAML(typ="safe").load(text(path)))
    jsonschema.Draft202012Validator.check_schema(found)
    properties = found.get("properties", {})
    if "digital-id" in path:
        assert properties.keys() == set(DigitalId.__struct_fields__)


def toolkit(name: str) -> jsonschema.Draft201909Validator:
    (path,) = [path for path in TOOLKIT if path.endswith(f"/{name}.json")]
    return jsonschema.Draft201909Validator(document(path))


@pytest.mark.parametrize("path", DIGITAL_IDS)
def test_published_digital_ids_fit_the_toolkits_schema(path):
    assert toolkit("DigitalIdResponseSchema").is_valid(payload(path))


@pytest.mark.parametrize("level", Certification)
@pytest.mark.parametrize("milliseconds", [True, False])
def test_our_digital_ids_fit_the_toolkits_schema_and_nothing_more_does(level, milliseconds):
    token = Scanner(1, level, digital_id_ms=milliseconds).digital_id(moment())
    ours = json.loads(split(token.encode()).payload)
    assert toolkit("DigitalIdResponseSchema").is_valid(ours)
    assert not toolkit("DigitalIdResponseSchema").is_valid(ours | {"more": "x"})
    assert not toolkit("DigitalIdResponseSchema").is_valid(ours | {"deviceSubType": "Full face"})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("Ready", {"errorCode": "0", "errorInfo": "Success"}),
        ("Busy", {"errorCode": "111", "errorInfo": "Device busy"}),
        ("Not Ready", {"errorCode": "110", "errorInfo": "Device not ready"}),
    ],
)
def test_our_device_info_fits_the_toolkits_schema_but_for_its_moment_and_the_callback(status, error):
    token = Scanner(1).info(moment())
    ours = json.loads(split(token.encode()).payload) | {"deviceStatus": status, "callbackId": "http://127.0.0.1:4501/"}
    del ours["timestamp"]
    schema = toolkit(f"DeviceInfo{status.replace(' ', '')}ResponseSchema")
    item = {"deviceInfo": token, "deviceInfoDecoded": ours, "error": error}
    assert schema.is_valid([item])
    assert not schema.is_valid([item | {"deviceInfoDecoded": ours | {"env": "Preproduction"}}])
    assert not schema.is_valid([item | {"deviceInfoDecoded": ours | {"bioValue": "x"}}])


def opened(token: str) -> dict[str, Any]:
    """Return what a JWS, or base64 of JSON, holds."""
    found: dict[str, Any] = json.loads(loose(token.split(".")[1] if "." in token else token))
    return found


def sent(profile: Profile, act: Act, scanner: Scanner) -> dict[str, Any]:
    """Return what MOSIP is asked, as it goes out."""
    row = scanner.row(device_info=scanner.info(moment()), purpose=scanner.purpose)
    asked = voice(profile).asked(task(act, device_code="c"), row, moment())
    assert asked.body is not None
    found: dict[str, Any] = asked.body["request"]
    return found


@pytest.mark.parametrize("level", Certification)
@pytest.mark.parametrize("profile", [Profile.PMS, Profile.MASTERDATA])
def test_what_a_register_is_sent_of_a_device_fits_the_toolkits_schemas(profile, level):
    scanner = Scanner(1, level, Purpose.AUTH if level is Certification.L1 else Purpose.REGISTRATION)
    data = opened(sent(profile, Act.REGISTER, scanner)["deviceData"])
    info = opened(data["deviceInfo"]) if profile is Profile.PMS else data["deviceInfo"]
    identity = opened(info["digitalId"])
    toolkit("DigitalIdResponseSchema").validate(identity)
    (properties,) = [
        one["properties"] for one in schemas_with(toolkit("DeviceInfoReadyResponseSchema").schema, "firmware")
    ]
    for name in ("certification", "firmware"):
        assert info[name] in properties[name].get("enum", [info[name]])
    assert data["purpose"] in properties["purpose"]["enum"]
    if profile is Profile.PMS:
        decoded = {name: value for name, value in info.items() if name != "timestamp"}
        decoded |= {"callbackId": "http://127.0.0.1:4501/", "digitalIdDecoded": identity}
        item = {"deviceInfo": data["deviceInfo"], "deviceInfoDecoded": decoded, "error": SUCCESS}
        toolkit("DeviceInfoReadyResponseSchema").validate([item])
        broken = item | {"deviceInfoDecoded": decoded | {"digitalIdDecoded": identity | {"more": "x"}}}
        assert not toolkit("DeviceInfoReadyResponseSchema").is_valid([broken])


SUCCESS = {"errorCode": "0", "errorInfo": "Success"}


def schemas_with(found: Any, name: str) -> list[dict[str, Any]]:
    """Return the parts of a schema that describe an object with a property."""
    inside = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    here = [found] if isinstance(found, dict) and name in (found.get("properties") or {}) else []
    return here + [part for one in inside for part in schemas_with(one, name)]


@pytest.mark.parametrize("level", Certification)
def test_the_hotlist_of_1_2_names_a_device_by_words_of_a_digital_id_that_fits(level):
    scanner = Scanner(1, level)
    identity = opened(scanner.digital_id(moment()))
    toolkit("DigitalIdResponseSchema").validate(identity)
    wish = sent(Profile.CRYPTO_ONLY, Act.HOTLIST, scanner)
    assert wish["id"] == identity["serialNo"] + identity["make"] + identity["model"]
    assert wish.keys() == {"id", "idType", "status", "expiryTimestamp"}


def test_every_environment_and_no_other_is_one_of_the_toolkits():
    (described,) = schemas_with(toolkit("DeviceInfoReadyResponseSchema").schema, "env")
    assert described["properties"]["env"]["enum"] == list(Environment)
