"""How a token is spoken to, on a fake library: the last try of a PIN is never taken, and what is missing is named."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pkcs11 import Attribute, TokenFlag
from pkcs11 import exceptions as said

from fleetward_broker.key_problems import KeyUnavailable, TokenLost, WrongPin
from fleetward_broker.pkcs11 import Module, Token
from fleetward_broker.pkcs11_uri import MAY_BE_UNREPORTED, TokenUri
from fleetward_broker.token_keys import MUST_BE, _holds, word_of


@dataclass
class FakeToken:
    """A slot and its token in one; answers a login as it is told."""

    label: str = "fleetward"
    serial: bytes = b"01"
    flags: int = 0
    answer: Exception | None = None
    pins: list[str | None] = field(default_factory=list)

    def get_token(self) -> "FakeToken":
        return self

    def open(self, *, rw: bool, user_pin: str | None = None) -> str:
        self.pins.append(user_pin)
        if user_pin is not None and self.answer is not None:
            raise self.answer
        return "rw session" if rw else "session"


@dataclass
class FakeLibrary:
    """A module with these tokens."""

    tokens: list[FakeToken]
    begun: int = 0

    def get_slots(self, *, token_present: bool) -> list[FakeToken]:
        return self.tokens

    def finalize(self) -> None:
        self.begun += 1

    def initialize(self) -> None:
        if self.begun > 100:
            raise said.DeviceError


@pytest.fixture
def uri(tmp_path: Path) -> TokenUri:
    (tmp_path / "pin").write_text("1234\n")
    (tmp_path / "pin").chmod(0o600)
    return TokenUri(tmp_path / "p11.so", str(tmp_path / "pin"), token="fleetward")


def module(uri: TokenUri, *tokens: FakeToken, now: float = 0.0) -> Module:
    made = Module(uri.module, lambda: now)
    made._library = FakeLibrary(list(tokens))
    return made


def test_a_token_is_logged_in_once_with_its_pin(uri: TokenUri) -> None:
    fake = FakeToken()
    token = module(uri, fake).token(uri)

    assert [token.use(str), token.use(str)] == ["session", "session"]
    assert fake.pins == ["1234"]


def test_a_session_that_writes_is_opened_where_the_uri_wants_one(uri: TokenUri) -> None:
    writing = replace(uri, rw=True)
    assert module(writing, FakeToken()).token(writing).use(str) == "rw session"


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_FINAL_TRY, TokenFlag.USER_PIN_LOCKED])
def test_the_last_try_of_a_pin_is_left_to_a_person(uri: TokenUri, flag: TokenFlag) -> None:
    fake = FakeToken(flags=flag)

    with pytest.raises(WrongPin, match="only a person should take"):
        module(uri, fake).token(uri).use(str)

    assert fake.pins == []


@pytest.mark.parametrize("answer", [said.PinIncorrect(), said.PinLocked(), said.PinExpired(), said.PinLenRange()])
def test_a_refused_pin_is_sent_once_whatever_the_refusal(uri: TokenUri, answer: Exception) -> None:
    fake = FakeToken(answer=answer)
    token = module(uri, fake).token(uri)

    for _ in range(3):
        with pytest.raises(WrongPin):
            token.use(str)

    assert fake.pins == ["1234"]


def test_a_process_that_is_logged_in_already_goes_on_without_a_pin(uri: TokenUri) -> None:
    fake = FakeToken(answer=said.UserAlreadyLoggedIn())
    assert module(uri, fake).token(uri).use(str) == "session"
    assert fake.pins == ["1234", None]


def test_two_tokens_of_one_label_are_told_apart_by_serial(uri: TokenUri) -> None:
    twins = FakeToken(), FakeToken(serial=b"02  ")
    with pytest.raises(KeyUnavailable, match="2 tokens 'fleetward'; add serial="):
        module(uri, *twins).token(uri).use(str)

    one = replace(uri, serial="02")
    assert module(one, *twins).token(one).use(str) == "session"
    assert [twin.pins for twin in twins] == [[], ["1234"]]


def test_what_a_token_answers_is_no_loss(uri: TokenUri) -> None:
    made = module(uri, FakeToken())

    def refuse(_: object) -> None:
        raise said.MechanismInvalid

    with pytest.raises(KeyUnavailable, match="refuses: MechanismInvalid") as refused:
        made.token(uri).use(refuse)
    assert not isinstance(refused.value, TokenLost)
    assert made._library.begun == 0


def test_a_loss_begins_the_module_anew_once_a_call_and_then_rests(uri: TokenUri) -> None:
    made = module(uri, FakeToken())
    token = made.token(uri)

    def fail(_: object) -> None:
        raise said.DeviceRemoved

    for _ in range(5):
        with pytest.raises(TokenLost, match="lost: DeviceRemoved"):
            token.use(fail)
    assert made._library.begun == 1


def test_a_token_that_hangs_is_a_token_that_is_lost_and_bars_nobody_for_long(uri: TokenUri) -> None:
    made, asked, let_go = module(uri, FakeToken()), [], threading.Event()
    token = made.token(uri)

    def hang(_: object) -> str:
        asked.append(1)
        let_go.wait(60)
        return "late"

    with pytest.raises(TokenLost, match=r"does not answer within 0\.05 s"):
        token.use(hang, 0.05)
    for made.monotonic in (lambda: 1.0, lambda: 5.0):
        began = time.monotonic()
        with pytest.raises(TokenLost, match="does not answer"):
            token.use(hang, 30)
        assert time.monotonic() - began < 10
    let_go.set()

    assert until_answered(token) == "session"
    assert asked == [1]


def until_answered(token: Token) -> str:
    """What hung comes back in its own time; each try is later than the rest before it."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        token._rest_until = 0.0
        try:
            return token.use(str)
        except TokenLost:
            continue
    raise AssertionError("never answered")


def test_what_a_call_raises_is_raised_where_it_was_asked_for(uri: TokenUri) -> None:
    def stumble(_: object) -> None:
        raise ZeroDivisionError

    token = module(uri, FakeToken()).token(uri)
    with pytest.raises(ZeroDivisionError):
        token.use(stumble)
    assert token.use(str) == "session"


@dataclass
class VendorsKey:
    """A key whose token has a word for some attributes alone."""

    words: dict[Attribute, bool]

    def __getitem__(self, attribute: Attribute) -> bool:
        if attribute not in self.words:
            raise said.AttributeTypeInvalid
        return self.words[attribute]


@pytest.mark.parametrize("attribute", [one for one in MUST_BE if one is not Attribute.EXTRACTABLE])
def test_an_attribute_that_a_vendor_does_not_report_is_excused_by_its_name_alone(
    uri: TokenUri, attribute: Attribute
) -> None:
    silent = VendorsKey({one: must for one, must in MUST_BE.items() if one is not attribute})
    excused = replace(uri, unreported=(word_of(attribute),))

    with pytest.raises(KeyUnavailable, match=f"CKA_{attribute.name} is unknown to the token"):
        _holds(silent, attribute, MUST_BE[attribute], uri)
    _holds(silent, attribute, MUST_BE[attribute], excused)


@pytest.mark.parametrize("attribute", list(MUST_BE))
def test_what_a_token_does_report_is_never_excused(uri: TokenUri, attribute: Attribute) -> None:
    wrong = VendorsKey({attribute: not MUST_BE[attribute]})
    with pytest.raises(KeyUnavailable, match=f"CKA_{attribute.name} is {not MUST_BE[attribute]}, must be"):
        _holds(wrong, attribute, MUST_BE[attribute], replace(uri, unreported=MAY_BE_UNREPORTED))


def test_a_module_that_does_not_begin_is_a_loss_too(uri: TokenUri) -> None:
    made = module(uri)
    made._library.begun = 100
    with pytest.raises(TokenLost, match="DeviceError"):
        made.token(uri).use(str)


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    return done.stdout + done.stderr


def test_a_host_without_the_part_for_tokens_is_told_what_to_install() -> None:
    script = """
import sys
sys.modules["pkcs11"] = None
from fleetward_broker.signers import open_key
open_key("pkcs11:token=a;object=b?module-path=/m&pin-source=/p")
"""
    assert "KeyUnavailable: keys in tokens need python-pkcs11; run: pip install 'fleetward[hsm]'" in run(script)


def test_a_host_without_softhsm_is_told_what_to_install(tmp_path: Path) -> None:
    script = f"from fleetward_sandbox.softhsm import *; make_token(Path({str(tmp_path)!r}))"
    assert "apt-get install softhsm2" in run(script, PATH=str(tmp_path))
