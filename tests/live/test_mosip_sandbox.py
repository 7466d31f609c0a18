"""The sandbox MOSIP answers as the real services do, over real TLS: their codes, their order, their oddities."""

import base64
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from fleetward_broker.profiles import Issuer
from fleetward_sandbox.mosip.app import SandboxMosip
from fleetward_sandbox.mosip.quirks import MEANINGS, Quirk
from fleetward_sandbox.mosip.register import Register
from fleetward_sandbox.mosip.serve import CLIENT, Served, open_sandbox
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import split
from fleetward_schemas.moment import show
from tests.mosip import PROVIDER_ID, Scanner, authority, rsa, signed

pytestmark = pytest.mark.live
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PMS, MASTERDATA = "/v1/partnermanager/registereddevices", "/v1/masterdata/registereddevices"
LOGIN = "/v1/authmanager/authenticate/clientidsecretkey"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("mosip")
    mosip = open_sandbox(folder, NOW - timedelta(days=9), datetime.now(UTC) - timedelta(hours=1))
    mosip.now = lambda: NOW
    with Served(mosip) as running:
        yield running


@pytest.fixture
def mosip(served: Served) -> SandboxMosip:
    served.mosip.register = Register(providers=None)
    served.mosip.register.onboard(rsa("device").public_key())
    served.mosip.quirks.clear()
    served.mosip.domains = None
    return served.mosip


@pytest.fixture
def client(served: Served, mosip: SandboxMosip) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(mosip.pki.folder / "tls.pem"))
    with httpx.Client(base_url=served.url, verify=context, timeout=60) as made:
        made.headers["Authorization"] = "Bearer " + (mosip.tokens.login(CLIENT, secret(mosip), NOW) or "")
        yield made


def secret(mosip: SandboxMosip) -> str:
    return mosip.tokens.clients[CLIENT]


def provider() -> Issuer:
    return authority("device", NOW)


def wrapped(request: Any, name: str = "io.mosip.deviceregister") -> dict[str, Any]:
    return {"id": name, "version": "v1", "requesttime": show(NOW), "request": request}


def data(scanner: Scanner, by: Issuer | None = None, **changes: Any) -> str:
    info = changes.pop("deviceInfo", None) or scanner.info(NOW)
    said = {"deviceId": scanner.id, "purpose": "Registration", "deviceInfo": info, "foundationalTrustProviderId": None}
    if scanner.level is Certification.L1:
        said["foundationalTrustProviderId"] = "sandbox-ftm"
    return signed(said | changes, by or provider())


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200
    body = answer.json()
    assert body["errors"] is None, body["errors"]
    return body["response"]


def codes(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200
    return [error["errorCode"] for error in answer.json()["errors"]]


def register(client: httpx.Client, text: str) -> httpx.Response:
    return client.post(PMS, json=wrapped({"deviceData": text}))


def deregister(client: httpx.Client, code: str, env: str = "Developer", path: str = PMS) -> httpx.Response:
    device = signed({"deviceCode": code, "env": env}, provider())
    return client.post(path + "/deregister", json=wrapped({"device": device, "isItForRegistrationDevice": True}))


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("level", Certification)
def test_a_device_is_registered_retired_and_gets_the_same_code_again(client, mosip, level):
    scanner = Scanner(1, level)
    first = claims(told(register(client, data(scanner))))
    assert (first["status"], first["env"]) == ("Registered", "Developer")
    assert codes(register(client, data(scanner))) == ["PMS_AUT_015"]
    gone = claims(told(deregister(client, first["deviceCode"])))
    assert (gone["status"], gone["deviceCode"]) == ("success", first["deviceCode"])
    assert codes(deregister(client, first["deviceCode"])) == ["PMS_AUT_016"]
    assert claims(told(register(client, data(scanner))))["deviceCode"] == first["deviceCode"]


def test_its_answer_is_signed_by_the_keymanager(client, mosip):
    token = told(register(client, data(Scanner(1))))
    leaf = mosip.pki.leaf("sign").certificate
    assert jwt.decode(token, leaf.public_key(), ["RS256"])["deviceCode"]


LATE = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("at", "found"),
    [
        (NOW - timedelta(minutes=2), ["PMS_AUT_012"]),
        (NOW - timedelta(minutes=2) + LATE, None),
        (NOW + timedelta(minutes=5) - LATE, None),
        (NOW + timedelta(minutes=5), ["PMS_AUT_012"]),
    ],
)
def test_the_window_is_two_minutes_back_and_five_ahead(client, at, found):
    scanner = Scanner(1)
    answer = register(client, data(scanner, deviceInfo=scanner.info(NOW, timestamp=show(at))))
    assert (codes(answer) if found else told(answer) and None) == found


def unsigned(text: str) -> str:
    return text.split(".")[1]


L0, L1 = Scanner(1), Scanner(2, Certification.L1)
STRANGER = Scanner(1, issuer=Issuer(authority("stranger", NOW).certificate, rsa("stranger")))
REFUSED = {
    "another provider": (lambda: data(L0, by=authority("stranger", NOW)), ["PMS_AUT_022"]),
    "unsigned data": (lambda: unsigned(data(L0)), ["PMS_AUT_022"]),
    "unsigned info": (lambda: data(L0, deviceInfo=unsigned(L0.info(NOW))), ["PMS_AUT_022"]),
    "another's device": (lambda: data(L0, deviceInfo=STRANGER.info(NOW)), ["PMS_AUT_022"]),
    "changed": (lambda: data(L0)[:-9] + "AAAAAAAAA", ["PMS_AUT_022"]),
    "L1 by the device's own key": (
        lambda: data(L1, deviceInfo=L1.info(NOW, digitalId=L0.digital_id(NOW))),
        ["PMS_AUT_022"],
    ),
    "L0 by an FTM": (lambda: data(L0, deviceInfo=L0.info(NOW, digitalId=L1.digital_id(NOW))), ["PMS_AUT_022"]),
    "L1 without its maker": (lambda: data(L1, foundationalTrustProviderId=""), ["PMS_AUT_030"]),
    "a maker nobody knows": (lambda: data(L1, foundationalTrustProviderId="other"), ["PMS_AUT_019"]),
    "no purpose": (lambda: data(L0, purpose="Both"), ["PMS_AUT_011"]),
    "a digital ID in seconds": (lambda: data(Scanner(1, digital_id_ms=False)), ["PMS_AUT_016"]),
    "no device id": (lambda: data(L0, deviceId=""), ["PMS_AUT_011"]),
    "two things at once": (
        lambda: data(L1, foundationalTrustProviderId="", deviceInfo=L1.info(NOW, timestamp=show(NOW - 9 * LATE * 60))),
        ["PMS_AUT_030", "PMS_AUT_012"],
    ),
}


@pytest.mark.parametrize(("made", "found"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_wrong_has_its_own_code(client, made, found):
    assert codes(register(client, made())) == found


@pytest.mark.parametrize("name", ["another provider", "unsigned data", "unsigned info", "another's device"])
def test_the_real_service_asks_nobody_whose_certificate_it_is(client, mosip, name):
    mosip.register.strict = False
    assert claims(told(register(client, REFUSED[name][0]())))["status"] == "Registered"


def test_a_model_that_is_not_approved_is_not_found(client, mosip):
    mosip.register.models = set()
    assert codes(register(client, data(L0))) == ["PMS_AUT_018"]
    mosip.register.models = {("Acme", "Slap-4")}
    told(register(client, data(L0)))


def test_a_search_gives_the_code_of_a_serial_number(client):
    code = claims(told(register(client, data(L0))))["deviceCode"]
    search = {"filters": [{"columnName": "serialNo", "value": L0.identity.serialNo, "type": "equals"}]}
    (row,) = told(client.post(PMS + "/search", json=wrapped(search)))["data"]
    assert (row["code"], row["statusCode"]) == (code, "Registered")


def test_one_code_of_a_deregistration_means_two_things(client):
    code = claims(told(register(client, data(L0))))["deviceCode"]
    answer = deregister(client, code, env="Production").json()
    assert answer["errors"] == [{"errorCode": "PMS_AUT_024", "message": "invalid environment"}]
    assert codes(deregister(client, "x" * 37)) == ["PMS_AUT_025"]


def masterdata(scanner: Scanner, moment: datetime = NOW, **changes: Any) -> str:
    digital = scanner.identity.document() | {"dateTime": show(NOW)}
    info = {
        "deviceSubId": "[1]",
        "certification": "L0",
        "digitalId": base64.b64encode(json.dumps(digital).encode()).decode(),
        "firmware": "1",
        "timeStamp": show(moment),
    }
    said = {"deviceId": scanner.id, "purpose": "Registration", "deviceInfo": info, "foundationalTrustProviderId": ""}
    return base64.b64encode(json.dumps(said | changes).encode()).decode()


def test_masterdata_takes_an_object_and_answers_with_no_jws(client):
    token = told(client.post(MASTERDATA, json=wrapped({"deviceData": masterdata(L0)})))
    head, body, last = token.split(".")
    assert json.loads(base64.b64decode(head)) == {"alg": "RS256", "type": "JWS"}
    assert json.loads(base64.b64decode(body))["status"] == "REGISTERED"
    assert base64.b64decode(last).count(b"..") == 1
    with pytest.raises(Refused, match="not base64url"):
        split(token.encode())
    code = json.loads(base64.b64decode(body))["deviceCode"]
    assert codes(client.post(MASTERDATA, json=wrapped({"deviceData": masterdata(L0)}))) == ["ADM-DPM-043"]
    told(deregister(client, code, path=MASTERDATA))
    assert codes(deregister(client, code, path=MASTERDATA)) == ["KER-DPR-001"]


def test_masterdata_looks_at_no_signature(client):
    text = "x." + masterdata(L0) + ".y"
    told(client.post(MASTERDATA, json=wrapped({"deviceData": text})))


def test_masterdata_has_its_own_codes(client, mosip):
    late = masterdata(L0, NOW - timedelta(minutes=3))
    assert codes(client.post(MASTERDATA, json=wrapped({"deviceData": late}))) == ["MSD-RDS-001"]
    mosip.register.listed = set()
    assert codes(client.post(MASTERDATA, json=wrapped({"deviceData": masterdata(L0)}))) == ["ADM-DPM-042"]
    text = data(L0)
    assert codes(client.post(MASTERDATA, json=wrapped({"deviceData": text}))) == ["KER-MSD-999"]


def test_the_hotlist_takes_one_id_as_often_as_it_is_told(client, mosip):
    wish = {"id": "SN-0001AcmeSlap-4", "idType": "DEVICE"}
    said = [told(client.post(f"/v1/hotlist/{act}", json=wrapped(wish))) for act in ("block", "block", "unblock")]
    assert [(one["id"], one["status"]) for one in said] == [
        (wish["id"], s) for s in ("BLOCKED", "BLOCKED", "UNBLOCKED")
    ]
    assert mosip.register.hotlist == {("DEVICE", wish["id"]): ["BLOCKED", "BLOCKED", "UNBLOCKED"]}
    other = wish | {"id": "another"}
    assert told(client.post("/v1/hotlist/unblock", json=wrapped(other)))["status"] == "UNBLOCKED"
    assert ("DEVICE", "another") not in mosip.register.hotlist


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ([{"id": "x", "idType": "DEVICE"}], ["ADM-HTL-004"]),
        ({"id": "x", "idType": "SCANNER"}, ["ADM-HTL-003"]),
        ({"idType": "DEVICE"}, ["ADM-HTL-001"]),
        ({"id": " ", "idType": ""}, ["ADM-HTL-002", "ADM-HTL-002"]),
        ({"id": "x", "idType": "DEVICE", "status": "GONE"}, ["ADM-HTL-002"]),
    ],
)
def test_the_hotlist_has_its_own_codes(client, mosip, request_, found):
    assert codes(client.post("/v1/hotlist/block", json=wrapped(request_))) == found
    assert mosip.register.hotlist == {}


def encryption(client: httpx.Client, **payload: str) -> httpx.Response:
    data = signed({"env": "Developer", "domainUri": "https://example.org"} | payload, provider())
    path = "/v1/masterdata/device/encryptioncertficates"
    return client.post(path, json=wrapped({"data": data}, "io.mosip.auth.country.certificate"))


def test_encryption_certificates_come_signed_as_written(client, mosip):
    token = told(encryption(client))
    (one,) = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert base64.b64decode(one["certificate"])
    assert codes(encryption(client, env="Preproduction")) == ["KER-KMS-002"]


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("/idauthentication/v1/internal/getCertificate", {"applicationId": "IDA", "referenceId": "IDA-FIR"}),
        ("/v1/keymanager/getCertificate", {"applicationId": "COMPLIANCE_TOOLKIT", "referenceId": "COMP-FIR"}),
    ],
)
def test_deployments_give_the_certificate_elsewhere(client, path, reference):
    assert told(client.get(path, params=reference))["certificate"].startswith("-----BEGIN CERTIFICATE")
    assert codes(client.get(path, params=reference | {"referenceId": "X"})) == ["KER-KMS-002"]


def test_authmanager_gives_its_token_as_a_cookie(client, mosip):
    wish = {"clientId": CLIENT, "secretKey": secret(mosip), "appId": "partner"}
    answer = client.post(LOGIN, json=wrapped(wish, "string"))
    assert mosip.tokens.holds(answer.cookies["Authorization"], NOW)
    assert not mosip.tokens.holds(answer.cookies["Authorization"], NOW + timedelta(minutes=5))
    refused = client.post(LOGIN, json=wrapped(wish | {"secretKey": "x"}, "string"))
    assert codes(refused) == ["KER-ATH-003"]


def test_keycloak_gives_its_token_in_the_answer(client, mosip):
    path = "/auth/realms/mosip/protocol/openid-connect/token"
    form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": secret(mosip)}
    answer = client.post(path, data=form).json()
    assert mosip.tokens.holds(answer["access_token"], NOW)
    assert client.post(path, data=form | {"client_secret": "x"}).status_code == 401


def test_nothing_is_done_without_a_token(client, mosip):
    client.headers["Authorization"] = "Bearer nothing"
    answer = register(client, data(L0))
    assert (answer.status_code, answer.json()["errors"][0]["errorCode"]) == (401, "KER-ATH-401")
    assert mosip.register.rows == {}


def test_a_quirk_happens_as_often_as_it_was_set(client, mosip):
    mosip.quirks.set(Quirk.UNAVAILABLE, 1)
    assert register(client, data(L0)).status_code == 503
    told(register(client, data(L0)))


def test_a_lost_answer_was_done_all_the_same(client, mosip):
    mosip.quirks.set(Quirk.LOSE_ANSWER, 1)
    with pytest.raises(httpx.HTTPError):
        register(client, data(L0))
    assert codes(register(client, data(L0))) == ["PMS_AUT_015"]


def test_a_cut_answer_was_not_done(client, mosip):
    mosip.quirks.set(Quirk.CUT, 1)
    with pytest.raises(httpx.HTTPError):
        register(client, data(L0))
    told(register(client, data(L0)))


def test_every_quirk_is_explained():
    assert MEANINGS.keys() == set(Quirk)


def test_it_comes_back_on_its_port_with_its_register(served, client, mosip):
    told(register(client, data(L0)))
    port = served.port
    served.stop()
    with pytest.raises(httpx.HTTPError):
        register(client, data(L0))
    served.start()
    assert served.port == port
    assert codes(register(client, data(L0))) == ["PMS_AUT_015"]


def test_a_provider_is_signed_anew_under_its_own_name(mosip):
    own = provider().certificate
    adopted = mosip.pki.adopt(own, NOW)
    assert (adopted.subject, adopted.public_key()) == (own.subject, own.public_key())
    adopted.verify_directly_issued_by(mosip.pki.leaf("pms").certificate)
    assert PROVIDER_ID not in adopted.subject.rfc4514_string()
