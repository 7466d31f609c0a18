"""MOSIP behind gateways, logins of all kinds, and answers in others' spellings: each has a clear outcome.

Every hostile case has its accepted twin; the server is ``strangehouse.py``, the rest is as in the connector's tests.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_sandbox.mosip.app import SandboxMosip
from fleetward_sandbox.mosip.serve import open_sandbox
from fleetward_sandbox.mosip.signatures import sign
from fleetward_schemas.enrol import State
from fleetward_schemas.jws import compact
from fleetward_schemas.moment import EPOCH
from fleetward_schemas.strict import b64url, show_der
from fleetward_server.mosip.operating import explained
from fleetward_server.mosip.queue import Task
from fleetward_server.mosip.settings import Profile
from tests.live.mosiphouse import START, Clock, Office, office
from tests.live.strangehouse import Heard, Strange, Talk, http, let_in, strange, wrapped
from tests.mosip import Scanner

pytestmark = pytest.mark.live
L0 = Scanner(1)
IDENTITY = L0.identity.document()
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def mosip(tmp_path_factory: pytest.TempPathFactory) -> SandboxMosip:
    began = START - timedelta(days=9)
    from datetime import UTC, datetime

    return open_sandbox(tmp_path_factory.mktemp("mosip"), began, datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def there(mosip: SandboxMosip) -> Iterator[Strange]:
    with strange(mosip) as house:
        yield house


@pytest.fixture
def here(there: Strange, tmp_path: Path) -> Iterator[Office]:
    """A provider in the world of 1.1, with a device whose info is fresh."""
    with office(tmp_path, there, Clock(), Profile.PMS) as made:
        made.add(L0, device_info=L0.info(START))
        yield made


def good(**changes: Any) -> dict[str, Any]:
    said = {"status": "Registered", "deviceCode": "code-1", "env": "Developer", "timeStamp": "2026-05-01T12:00:00.000Z"}
    return said | {"digitalId": base64.urlsafe_b64encode(json.dumps(IDENTITY).encode()).decode()} | changes


def registered(mosip: SandboxMosip, **changes: Any) -> dict[str, Any]:
    return wrapped(sign(good(**changes), mosip.pki.leaf("sign")))


def always(answer: bytes) -> Talk:
    return lambda _, __: answer


def once(first: bytes, then: bytes) -> Talk:
    return lambda _, number: first if number == 1 else then


def after(here: Office) -> Task:
    here.work()
    (task,) = here.tasks(L0)
    return task


def chunked(raw: bytes) -> bytes:
    parts = [raw[at : at + 7] for at in range(0, len(raw), 7)]
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(one), one) for one in parts)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\nx-behind: y\r\n\r\n"


SPELLED = {
    "plainly": lambda raw: http(raw),
    "compressed": lambda raw: http(gzip.compress(raw), "200 OK", "content-encoding: gzip"),
    "in pieces": chunked,
    "with a byte order mark": lambda raw: http(b"\xef\xbb\xbf" + raw),
    "by the old HTTP": lambda raw: b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + http(raw).split(b"\r\n", 1)[1],
    "after a hundred": lambda raw: b"HTTP/1.1 100 Continue\r\n\r\n" + http(raw),
    "with more members": lambda raw: http(raw[:-1] + b', "more": {"errorCode": "X"}, "error": null}'),
    "with no errors in a list": lambda raw: http(raw.replace(b'"errors": null', b'"errors": []')),
}


@pytest.mark.parametrize("spell", SPELLED.values(), ids=list(SPELLED))
def test_an_answer_is_heard_however_it_is_carried(here, there, spell):
    there.talk = always(spell(json.dumps(registered(there.mosip)).encode()))
    task = after(here)
    assert (task.state, task.device_code, here.code(L0)) == ("done", "code-1", "code-1")


PASSING = {
    "too many": (http({"message": "slow down"}, "429 Too Many Requests", "retry-after: 120"), 120),
    "too many, without a word": (http(b"", "429 Too Many Requests", "retry-after: 120"), 120),
    "a day": (http(b"", "429 Too Many Requests", "retry-after: 86400"), 3600),
    "at a moment": (
        http(
            b"<html>",
            "503 Service Unavailable",
            "date: Fri, 01 May 2026 09:00:00 GMT",
            "retry-after: Fri, 01 May 2026 09:05:00 GMT",
        ),
        300,
    ),
    "at a moment without a date": (http(b"", "503 x", "retry-after: Fri, 01 May 2026 09:05:00 GMT"), 0),
    "at no moment": (http(b"", "503 x", "date: now", "retry-after: soon"), 0),
    "a gateway's own JSON": (http({"status": 503, "error": "Service Unavailable"}, "503 Service Unavailable"), 0),
    "a list of words": (http({"errors": ["down"]}, "500 x"), 0),
    "elsewhere": (http({}, "302 Found", "location: https://evil.example/"), 0),
    "elsewhere, by the same method": (http(b"", "307 x", "location: https://evil.example/"), 0),
    "too slow": (http({"a": 1}, "408 Request Timeout"), 0),
}


@pytest.mark.parametrize(("answer", "wait_s"), PASSING.values(), ids=list(PASSING))
def test_a_gateway_that_has_no_time_costs_a_pause_as_long_as_it_says(here, there, answer, wait_s):
    there.talk = once(answer, http(registered(there.mosip)))
    task = after(here)
    assert (task.state, task.code, task.refusals, here.connector.pause.failures) == ("waiting", "bad-status", 0, 1)
    waits = here.connector.pause.until - here.clock.now
    assert waits >= max(wait_s, 1) * SECOND
    assert waits <= max(wait_s, 5) * SECOND
    here.clock.now += waits - SECOND
    assert not here.connector.step(here.clock.now)
    here.clock.now += SECOND
    here.change(L0, device_info=L0.info(here.clock.now))
    assert after(here).state == "done"
    assert [one.path for one in there.heard].count("/v1/partnermanager/registereddevices") == 2


REFUSED_TOKEN = {
    "MOSIP's word": http(wrapped(None, [{"errorCode": "KER-ATH-401", "message": "x"}]), "401 Unauthorized"),
    "MOSIP's word, HTTP 200": http(wrapped(None, [{"errorCode": "KER-ATH-402", "message": "Token expired"}])),
    "a gateway's silence": http(b"", "401 Unauthorized"),
    "a gateway's page": http(b"<html>", "401 Unauthorized"),
    "a proxy's page": http(b"<html>", "403 Forbidden"),
    "no role": http(wrapped(None, [{"errorCode": "KER-ATH-403", "message": "Forbidden"}]), "403 Forbidden"),
}


@pytest.mark.parametrize("answer", REFUSED_TOKEN.values(), ids=list(REFUSED_TOKEN))
def test_a_token_that_is_over_in_the_middle_is_replaced_at_once_whoever_says_so(here, there, answer):
    there.talk = once(answer, http(registered(there.mosip)))
    assert after(here).state == "done"
    assert [one.login for one in there.heard] == [True, False, True, False]


@pytest.mark.parametrize("name", ["no role", "a proxy's page"])
def test_a_role_that_is_lacking_is_everybodys_pause_and_told(here, there, name):
    there.talk = always(REFUSED_TOKEN[name])
    task = after(here)
    assert (task.state, task.code, task.refusals) == ("waiting", "KER-ATH-403", 0)
    assert "role" in explained("KER-ATH-403")
    there.talk = always(http(registered(there.mosip)))
    here.work_for(minutes=1)
    assert here.tasks(L0)[0].state == "done"


def expiring(at: int) -> str:
    return jwt.encode({"exp": at}, "k" * 32, "HS256")


NOW_S = (START - EPOCH) // SECOND
LOGINS = {
    "a cookie": (let_in(), 60),
    "a header": (http(wrapped({}), "200 OK", "authorization: a-token"), 60),
    "a header with its kind": (http(wrapped({}), "200 OK", "authorization: Bearer a-token"), 60),
    "a cookie of another domain, and a header": (
        http({}, "200 OK", "set-cookie: Authorization=x; Domain=mosip.net", "authorization: a-token"),
        60,
    ),
    "two cookies": (
        http({}, "200 OK", "set-cookie: Authorization=b; Path=/v1", "set-cookie: Authorization=a; Path=/"),
        60,
    ),
    "an end": (let_in(expiring(NOW_S + 300)), 270),
    "an end in the far future": (let_in(expiring(10**15)), 86_370),
    "an end in the far past": (let_in(expiring(-(10**15))), -30),
}


@pytest.mark.parametrize(("answer", "left_s"), LOGINS.values(), ids=list(LOGINS))
def test_a_token_is_found_wherever_it_stands_and_used_as_long_as_it_is_good(here, there, answer, left_s):
    there.logs_in, there.talk = always(answer), always(http(registered(there.mosip)))
    assert after(here).state == "done"
    assert here.connector._tokens._token.until == START + left_s * SECOND
    asked = there.heard[-1].headers
    assert asked["authorization"] in {"Bearer a-token", "Bearer b", "Bearer a"} or left_s != 60
    assert asked["cookie"] == asked["authorization"].replace("Bearer ", "Authorization=")


KEYCLOAKS = {
    "as ever": ({"access_token": "a-token", "expires_in": 300}, 270),
    "a number in words": ({"access_token": "a-token", "expires_in": "300"}, 60),
    "a broken number": ({"access_token": "a-token", "expires_in": 300.5}, 60),
    "beyond all time": ({"access_token": "a-token", "expires_in": 10**13}, 86_370),
    "before its beginning": ({"access_token": "a-token", "expires_in": -5}, -30),
}


@pytest.mark.parametrize(("body", "left_s"), KEYCLOAKS.values(), ids=list(KEYCLOAKS))
def test_what_keycloak_says_of_a_tokens_life_is_bounded(there, tmp_path, body, left_s):
    there.logs_in, there.talk = always(http(body)), always(http(registered(there.mosip)))
    with office(tmp_path, there, Clock(), Profile.PMS, login="keycloak") as here:
        here.add(L0, device_info=L0.info(START))
        assert after(here).state == "done"
        assert here.connector._tokens._token.until == START + left_s * SECOND


NO_LOGIN = {
    "refused once": (http({"error": "unauthorized_client", "error_description": "no"}, "401 x"), "http-401"),
    "refused without a word": (http(b"", "401 x"), "http-401"),
    "a page": (http(b"<html>", "200 OK"), "not-json"),
    "too many": (http(b"", "429 x", "retry-after: 5"), "bad-status"),
    "no letters": (http({"access_token": "\u00e9"}), "bad-token"),
    "two lines": (http({"access_token": "a\r\nx-evil: 1"}), "bad-token"),
    "a number": (http({"access_token": 5}), "http-200"),
}


@pytest.mark.parametrize(("answer", "code"), NO_LOGIN.values(), ids=list(NO_LOGIN))
def test_a_login_that_fails_once_is_a_pause_with_its_reason(there, tmp_path, answer, code):
    there.logs_in = once(answer, http({"access_token": "a-token", "expires_in": 300}))
    there.talk = always(http(registered(there.mosip)))
    with office(tmp_path, there, Clock(), Profile.PMS, login="keycloak") as here:
        here.add(L0, device_info=L0.info(START))
        assert (after(here).code, here.connector.pause.failures) == (code, 1)
        here.work_for(minutes=1)
        assert here.tasks(L0)[0].state == "done"


ERRORS = {
    "a word": ("boom", "unreadable-error"),
    "words": (["boom"], "unreadable-error"),
    "a message alone": ([{"message": "boom"}], "unreadable-error"),
    "a number": ([{"errorCode": 500, "message": 7}], "500"),
    "what no store and no terminal takes": ([{"errorCode": "A\0", "message": "x\ud800\x1b[2J\0y"}], "A?"),
}


@pytest.mark.parametrize(("errors", "code"), ERRORS.values(), ids=list(ERRORS))
def test_errors_that_cannot_be_read_are_errors_though_all_else_is_well(here, there, errors, code):
    there.talk = always(http(registered(there.mosip) | {"errors": errors}))
    task = after(here)
    assert (task.state, task.code, here.code(L0)) == ("waiting", code, None)
    assert (task.detail or "x").isprintable()
    here.work_for(minutes=60, every_s=20)
    assert here.tasks(L0)[0].state == "dead"


CODES = {
    "a number": 17,
    "empty": "",
    "too long": "c" * 37,
    "of other letters": "k\u00f6d-1",
    "of two lines": "a\nb",
    "a list": ["code-1"],
}


@pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))
def test_a_code_that_no_device_could_be_told_is_not_taken(here, there, code):
    found = {"serialNo": "SN-0001", "deviceId": L0.id, "statusCode": "Registered", "code": code}

    def talk(heard: Heard, number: int) -> bytes:
        if heard.path.endswith("/search"):
            return http(wrapped({"data": [found]}))
        known = wrapped(None, [{"errorCode": "PMS_AUT_015", "message": "exists"}])
        return http(registered(there.mosip, deviceCode=code) if number == 1 else known)

    there.talk = talk
    assert (after(here).code, here.code(L0)) == ("bad-answer", None)
    here.work_for(minutes=1)
    task = here.tasks(L0)[0]
    assert task.state == "done"
    assert here.code(L0) == ("17" if code == 17 else None)


def _of(mosip: SandboxMosip, header: bytes | dict[str, Any]) -> str:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return compact(b64url(raw).encode(), json.dumps(good()).encode(), mosip.pki.leaf("sign").key).decode()


def signatures(mosip: SandboxMosip) -> dict[str, str]:
    """Return answers that a lax reader would take."""
    leaf = mosip.pki.leaf("sign")
    der = leaf.certificate.public_bytes(Encoding.DER)
    x5c, right = [show_der(der)], sign(good(), leaf)
    payload = b64url(json.dumps(good()).encode())
    return {
        "none": f"{b64url(json.dumps({'alg': 'none', 'x5c': x5c}).encode())}.{payload}.",
        "none, signed": _of(mosip, {"alg": "none", "x5c": x5c}),
        "another algorithm": _of(mosip, {"alg": "PS256", "x5c": x5c}),
        "a shared key's": _of(mosip, {"alg": "HS256", "x5c": x5c}),
        "two chains": _of(mosip, f'{{"alg":"RS256","x5c":{json.dumps(x5c)},"x5c":{json.dumps(x5c)}}}'.encode()),
        "base64url in x5c": _of(mosip, {"alg": "RS256", "x5c": [base64.urlsafe_b64encode(der).decode()]}),
        "no chain": _of(mosip, {"alg": "RS256"}),
        "an empty chain": _of(mosip, {"alg": "RS256", "x5c": []}),
        "what must be understood": _of(mosip, {"alg": "RS256", "x5c": x5c, "crit": ["b64"], "b64": False}),
        "padded": ".".join(part + "=" * (-len(part) % 4) for part in right.split(".")),
        "a line more": right + "\n",
        "the right chain, over": sign(good(), mosip.pki.expired_leaf("sign", START)),
        "of the right root, a partner's": sign(good(), mosip.pki.partner("Bank", START - timedelta(days=1))),
        "of another device": sign(good(digitalId=b64url(json.dumps(IDENTITY | {"serialNo": "x"}).encode())), leaf),
        "of no device": sign(good(digitalId="!!!"), leaf),
        "another status": sign(good(status=1), leaf),
        "a list": sign([good()], leaf),
    }


NAMES = ("none", "none, signed", "another algorithm", "a shared key's", "two chains", "base64url in x5c", "no chain")
NAMES += ("an empty chain", "what must be understood", "padded", "a line more", "the right chain, over")
NAMES += ("of the right root, a partner's", "of another device", "of no device", "another status", "a list")


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_not_rightly_signed_is_none(here, there, name):
    made = signatures(there.mosip)
    assert set(made) == set(NAMES)
    there.talk = once(http(wrapped(made[name])), http(registered(there.mosip)))
    task = after(here)
    assert (task.state, task.code, here.code(L0)) == ("waiting", "bad-answer", None)
    here.work_for(minutes=1)
    assert here.tasks(L0)[0].state == "done"


def test_the_leaf_may_stand_twice_in_a_chain_since_the_first_alone_counts(here, there):
    der = there.mosip.pki.leaf("sign").certificate.public_bytes(Encoding.DER)
    there.talk = always(http(wrapped(_of(there.mosip, {"alg": "RS256", "x5c": [show_der(der)] * 2}))))
    assert after(here).state == "done"


@pytest.mark.parametrize(("code", "state"), [("code-1", "done"), ("code-2", "waiting"), (["code-1"], "waiting")])
def test_a_deregistration_of_another_device_is_not_ours(here, there, code, state):
    there.talk = always(http(registered(there.mosip)))
    here.work()
    gone = {"status": "success", "deviceCode": code, "env": "Developer", "timeStamp": "2026-05-01T12:00:00.000Z"}
    there.talk = always(http(wrapped(sign(gone, there.mosip.pki.leaf("sign")))))
    here.change(L0, state=State.RETIRED)
    here.work()
    task = here.tasks(L0)[-1]
    assert (task.act, task.state, task.device_code) == ("deregister", state, "code-1")


def test_a_bomb_of_a_hundred_thousand_to_one_is_too_large(here, there):
    there.talk = always(http(gzip.compress(b" " * 50_000_000), "200 OK", "content-encoding: gzip"))
    assert after(here).code == "too-large"
