"""A PIN is tried once; a token is lost and found again; threads and children share it and nothing breaks."""

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pkcs11 import Mechanism

from fleetward_broker.key_problems import KeyUnavailable, TokenLost, WrongPin
from fleetward_broker.pkcs11 import Module, Token, module_at
from fleetward_broker.pkcs11_uri import read_uri, show_uri
from fleetward_broker.signers import open_key
from fleetward_broker.token_keys import make_token_key
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.jws import Alg, sign

pytestmark = [pytest.mark.live, pytest.mark.part]
Tokens = Callable[[str], SoftToken]


def token_of(hsm: SoftToken) -> Token:
    return module_at(hsm.module).token(hsm.parts)


def test_a_wrong_pin_is_tried_once_until_the_file_holds_another(tokens: Tokens) -> None:
    hsm = tokens("pins")
    right = hsm.pin.read_text()
    hsm.pin.write_text("0000\n")

    for said in ("PinIncorrect", "not tried again until that changes", "not tried again"):
        with pytest.raises(WrongPin, match=said):
            open_key(hsm.key("a"))
    assert token_of(hsm).logins == 1

    hsm.pin.write_text(right)
    make_token_key(hsm.key("a"), Alg.EDDSA)
    assert token_of(hsm).logins == 2


def test_a_pin_that_others_may_read_opens_nothing(tokens: Tokens) -> None:
    hsm = tokens("open")
    hsm.pin.chmod(0o644)

    with pytest.raises(KeyUnavailable, match="readable by others"):
        open_key(hsm.key("a"))
    assert token_of(hsm).logins == 0

    hsm.pin.chmod(0o600)
    make_token_key(hsm.key("a"), Alg.EDDSA)


def test_one_login_serves_every_key_of_a_process(tokens: Tokens) -> None:
    hsm = tokens("login")
    keys = [make_token_key(hsm.key(name), Alg.EDDSA) for name in ("a", "b", "c")]
    before = token_of(hsm).logins

    for key in keys:
        sign(key, b"data")

    assert (before, token_of(hsm).logins) == (token_of(hsm).logins, before)


class Clock:
    """Monotonic seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_that_was_lost_is_asked_less_and_less_and_works_again_by_itself(tokens: Tokens) -> None:
    hsm, clock = tokens("lost"), Clock()
    make_token_key(hsm.key("a"), Alg.EDDSA)
    module = Module(hsm.module, clock)
    token, uri = module.token(hsm.parts), replace(hsm.parts, label="a")
    begun: list[int] = []

    hsm.take_away()
    for _ in range(40):
        clock.now += 0.5
        with pytest.raises(TokenLost, match="token 'lost': lost"):
            use(token, uri)
        begun.append(module.generation)
    hsm.give_back()
    clock.now += 10

    use(token, uri)
    assert len(set(begun)) <= 8
    assert token.logins == 1


def use(token: Token, uri: Any) -> bytes:
    return token.sign(uri, b"data", Mechanism.EDDSA)


def test_a_key_that_was_open_works_again_after_a_loss(tokens: Tokens) -> None:
    hsm = tokens("handle")
    key = make_token_key(hsm.key("a"), Alg.RS256)
    one = max((hsm.folder / "tokens").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    shutil.move(one, hsm.folder / "pulled")
    with pytest.raises(TokenLost):
        sign(key, b"data")
    shutil.move(hsm.folder / "pulled", one)
    other = make_token_key(tokens("other").key("b"), Alg.EDDSA)

    sign(other, b"data")
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while lost(key):
        assert datetime.now(UTC) < deadline


def lost(key: Any) -> bool:
    try:
        sign(key, b"data")
    except TokenLost:
        return True
    return False


def run(hsm: SoftToken, script: str) -> str:
    """Run a script of its own process: what breaks a module breaks a process."""
    head = f"""
        import multiprocessing, os, sys, threading
        from fleetward_broker.signers import open_key
        from fleetward_schemas.jws import sign, verify
        URI = {hsm.key(Alg.RS256)!r}
    """
    whole = textwrap.dedent(head) + textwrap.dedent(script)
    path = hsm.folder / "script.py"
    path.write_text(whole)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_share_a_key_and_nothing_breaks(hsm: SoftToken) -> None:
    script = """
        key, done = open_key(URI), []
        def work():
            mine = open_key(URI)
            for n in range(150):
                data = b"%d" % n
                verify(key.public_key(), data, sign(key if n % 2 else mine, data))
                mine.require()
            done.append(1)
        threads = [threading.Thread(target=work) for _ in range(4)]
        [one.start() for one in threads]
        [one.join() for one in threads]
        print(len(done))
    """
    assert run(hsm, script) == "4\n"


def test_a_child_opens_the_token_anew_and_the_parent_goes_on(hsm: SoftToken) -> None:
    script = """
        key = open_key(URI)
        sign(key, b"before")
        child = os.fork()
        if child == 0:
            verify(key.public_key(), b"child", sign(key, b"child"))
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        verify(key.public_key(), b"parent", sign(key, b"parent"))
    """
    assert run(hsm, script) == "7\n"


def test_a_spawned_process_opens_the_token_for_itself(hsm: SoftToken) -> None:
    script = """
        def work(uri):
            key = open_key(uri)
            verify(key.public_key(), b"x", sign(key, b"x"))
        if __name__ == "__main__":
            sign(open_key(URI), b"before")
            one = multiprocessing.get_context("spawn").Process(target=work, args=(URI,))
            one.start()
            one.join()
            print(one.exitcode)
    """
    assert run(hsm, script) == "0\n"


def test_the_pin_may_come_from_the_service_manager(hsm: SoftToken) -> None:
    uri = show_uri(replace(read_uri(hsm.key(Alg.RS256)), pin_source="credential:hsm-pin"))
    script = f"""
        os.environ["CREDENTIALS_DIRECTORY"] = {str(hsm.folder / "credentials")!r}
        key = open_key({uri!r})
        verify(key.public_key(), b"x", sign(key, b"x"))
        print("signed")
    """
    (hsm.folder / "credentials").mkdir()
    shutil.copy(hsm.pin, hsm.folder / "credentials" / "hsm-pin")
    (hsm.folder / "credentials" / "hsm-pin").chmod(0o440)

    assert run(hsm, script) == "signed\n"
