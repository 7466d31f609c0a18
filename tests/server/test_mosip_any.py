"""Whatever MOSIP answers, the outcome is one that is known: nothing of ours stumbles over a shape of its own."""

import base64
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_schemas.errors import Refused
from fleetward_schemas.strict import b64url
from fleetward_server.mosip.answers import Fault, errors_of, judged
from fleetward_server.mosip.approvals import Wanted, check
from fleetward_server.mosip.chips import Chip
from fleetward_server.mosip.exchange import Answer, Asked
from fleetward_server.mosip.fetching import _certificates
from fleetward_server.mosip.profiles import DEVICE_CODE, Told, about, code_found, is_about
from fleetward_server.mosip.queue import Act, Task
from fleetward_server.mosip.settings import Login, MosipTable, Profile
from fleetward_server.mosip.tokens import NoToken, Token, Tokens
from fleetward_server.problem import OperatorProblem
from fleetward_server.state import Model
from tests.mosip import NOW, Scanner, task, voice

NAMES = (
    "response",
    "errors",
    "error",
    "errorCode",
    "message",
    "status",
    "deviceCode",
    "digitalId",
    "data",
    "id",
    "code",
)
NAMES += ("deviceId", "serialNo", "statusCode", "make", "model", "deviceProviderId", "certificate", "approvalStatus")
NAMES += ("isActive", "swExpiryDateTime", "swBinaryHash", "access_token", "expires_in", "ftpChipDetailId", "timestamp")
SCANNER = Scanner(1)
ROW = SCANNER.row()
WORDS = ("Registered", "REGISTERED", "success", "BLOCKED", "approved", "SN-0001", "Acme", "Slap-4", "acme", SCANNER.id)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(st.characters(codec=None), max_size=12),
    st.just("2026-05-01T12:00:00.000Z"),
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(NAMES), inner, max_size=6) | st.lists(inner, max_size=3) | carried(inner)


def carried(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Return texts that hold more: as masterdata's three segments, or base64 of either alphabet."""
    raw = inner.map(lambda value: json.dumps(value).encode())
    padded = raw.map(lambda one: base64.b64encode(one).decode())
    return padded | raw.map(b64url) | padded.map(lambda one: f"e30=.{one}.e30=")


JSON = st.recursive(LEAVES, objects, max_leaves=12)
BODIES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5)
DIGITAL_ID = b64url(SCANNER.identity.json().encode())
REGISTERED = {"status": "Registered", "deviceCode": "code-1", "env": "Developer", "digitalId": DIGITAL_ID}
FOUND = {"serialNo": "SN-0001", "deviceId": SCANNER.id, "statusCode": "Registered", "code": "code-1"}
APPROVED = {"deviceProviderId": "acme", "make": "Acme", "model": "Slap-4", "deviceTypeCode": "Finger"}
APPROVED |= {"deviceSubTypeCode": "Slap", "approvalStatus": "approved", "isActive": True, "swExpiryDateTime": None}


def nearly(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return what is good but for one member."""
    return st.builds(lambda name, value: good | {name: value}, st.sampled_from(sorted(good)), JSON)


def segments(said: object) -> str:
    return f"e30=.{base64.b64encode(json.dumps(said).encode()).decode()}.e30="


NEARLY = nearly(REGISTERED).map(segments) | st.builds(
    lambda rows: {"data": rows}, st.lists(nearly(FOUND) | nearly(APPROVED), min_size=1, max_size=2)
)
SAID = BODIES | NEARLY.map(lambda response: {"response": response})
ANSWERS = st.builds(Answer, st.sampled_from([200, 200, 200, 400, 401, 403, 404]), SAID, st.just({}))


def heard(answer: Answer, of: Task, profile: Profile) -> Told | tuple[Fault, ...] | str:
    """Return what an answer says, or why it is none."""
    try:
        told = voice(profile).told(of, answer, NOW)
        is_about(told, ROW)
    except Refused as refusal:
        return refusal.detail
    return told


@given(ANSWERS, st.sampled_from(list(Act)), st.sampled_from([Profile.PMS, Profile.MASTERDATA, Profile.CRYPTO_ONLY]))
@settings(max_examples=400, deadline=None)
def test_any_answer_to_a_task_is_told_refused_or_an_error(answer: Answer, act: Act, profile: Profile) -> None:
    of = task(act, device_code="code-1")
    told = heard(answer, of, profile)
    if isinstance(told, str):
        assert told.isprintable()
    elif isinstance(told, Told):
        assert told.device_code is None or DEVICE_CODE.fullmatch(told.device_code)
    else:
        _, fault = voice(profile).meant(told, of, NOW)
        assert f"{fault.code}{fault.detail}".isprintable()
        assert len(fault.code) <= 64
        assert len(fault.detail) <= 300


@given(nearly(REGISTERED))
@settings(max_examples=300, deadline=None)
def test_a_registration_that_is_nearly_right_gives_a_code_of_this_device_or_none(said: dict[str, Any]) -> None:
    told = heard(Answer(200, {"response": segments(said)}, {}), task(), Profile.MASTERDATA)
    if isinstance(told, Told):
        assert told.about == about(SCANNER.identity)
        assert DEVICE_CODE.fullmatch(told.device_code or "")


@given(ANSWERS)
@settings(max_examples=300, deadline=None)
def test_any_answer_to_a_search_finds_this_device_or_none(answer: Answer) -> None:
    code = code_found(answer, ROW).code
    assert code is None or DEVICE_CODE.fullmatch(code)
    for read in (Chip("acme", "Acme", "Slap-4").row_found, Chip("acme", "Acme", "Slap-4").row_made):
        try:
            assert read(answer).isprintable()
        except Refused:
            continue


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_answer_with_certificates_has_some_or_is_refused(said: object) -> None:
    try:
        _certificates(said)
    except Refused:
        return


@dataclass
class Saying:
    """An exchange that answers everything alike."""

    answer: Answer

    def ask(self, _: Asked) -> Answer:
        return self.answer


def logged_in(tokens: Tokens, answer: Answer) -> Token | str:
    """Return the token that an answer gives, or why it gives none."""
    try:
        return tokens._token_of(answer, NOW)
    except NoToken as why:
        return f"{why.fault.code}{why.fault.detail}"


MODEL = Model("acme", "Acme", "Slap-4", "Finger", "Slap", approved=True)


LOGGED_IN = nearly({"access_token": "a-token", "expires_in": 300})


@given(st.builds(Answer, st.just(200), SAID | LOGGED_IN, st.just({})), st.sampled_from(list(Login)))
@settings(max_examples=300, deadline=None)
def test_any_answer_at_the_login_or_of_approvals_has_a_clear_outcome(answer: Answer, login: Login) -> None:
    secret = Path(__file__).parent / "no-secret-there"
    tokens = Tokens(MosipTable(login=login, secret_file=str(secret)), secret.parent, Saying(answer))
    with pytest.raises(NoToken, match="no-secret"):
        tokens.ask(Asked("GET", "/"), NOW)
    given_one = logged_in(tokens, answer)
    if isinstance(given_one, str):
        assert given_one.isprintable()
    tokens._token = Token("a-token", NOW + timedelta(hours=1))
    try:
        found = check(tokens, Wanted((MODEL,), ((MODEL, "1.0"),)), "acme", NOW)
        assert all(one.state.isprintable() for one in found)
    except (OperatorProblem, NoToken):
        return


def test_an_answer_with_errors_is_judged_by_one_of_them() -> None:
    assert judged(errors_of(Answer(200, {"errors": ["x", {"errorCode": "PMS_AUT_018"}]}, {})))[1].code == "PMS_AUT_018"
