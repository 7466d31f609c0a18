"""Device keys in a real token: made there under the device's name, the same for the same name, gone when destroyed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pkcs11 import Attribute, ObjectClass, Session

from fleetward_agent.key_places import FILES, key_store
from fleetward_agent.keys import FileKeys
from fleetward_agent.token_keys import TokenKeys
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11 import Token, module_at
from fleetward_broker.pkcs11_uri import token_alone
from fleetward_broker.token_facts import every_attribute_of
from fleetward_broker.token_keys import MUST_BE, word_of
from fleetward_broker.token_objects import HALVES, search, writing
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.jws import Alg, PrivateKey, alg_of, sign, verify
from fleetward_schemas.topics import DeviceId

pytestmark = [pytest.mark.live, pytest.mark.part]
ONE, OTHER = DeviceId("a" * 26), DeviceId("b" * 26)


@pytest.fixture(scope="module")
def token(tokens: Callable[[str], SoftToken]) -> SoftToken:
    return tokens("scanners")


@pytest.fixture
def keys(token: SoftToken) -> TokenKeys:
    keys = TokenKeys(token.parts, ONE)
    for name in keys.names():
        keys.destroy(name)
    return keys


def opened(token: SoftToken) -> Token:
    return module_at(token.module).token(token.parts)


def every_label(token: SoftToken) -> list[str]:
    def look(session: Session) -> list[str]:
        return [str(one[Attribute.LABEL]) for kind in HALVES for one in session.get_objects({Attribute.CLASS: kind})]

    return sorted(opened(token).use(look))


def thumbprint(key: PrivateKey) -> str:
    return key_thumbprint(key.public_key())


@pytest.mark.parametrize("alg", list(Alg))
def test_a_name_keeps_its_key_through_restarts(token: SoftToken, keys: TokenKeys, alg: Alg) -> None:
    made = keys.make("device-1", alg)
    again = TokenKeys(token.parts, ONE)

    verify(made.public_key(), b"data", sign(again.open("device-1"), b"data"))
    assert alg_of(made) is alg
    assert thumbprint(again.make("device-1", alg)) == thumbprint(made)


def test_a_key_is_made_in_the_token_and_cannot_leave_it(token: SoftToken, keys: TokenKeys) -> None:
    keys.make("device-1", Alg.RS256)

    said = every_attribute_of(token.key(f"fleetward/{ONE}/device-1"))
    assert {one: said[word_of(one)] for one in MUST_BE} == {one: "yes" if so else "no" for one, so in MUST_BE.items()}


def test_a_new_key_lives_beside_the_old_until_the_old_is_destroyed(token: SoftToken, keys: TokenKeys) -> None:
    old, new = keys.make("device-1", Alg.RS256), keys.make("device-2", Alg.RS256)
    assert keys.names() == {"device-1", "device-2"}
    sign(old, b"data")

    keys.destroy("device-1")
    keys.destroy("device-1")

    assert every_label(token) == [f"fleetward/{ONE}/device-2"] * 2
    verify(new.public_key(), b"data", sign(new, b"data"))
    with pytest.raises(KeyUnavailable, match="no private key"):
        keys.open("device-1")
    with pytest.raises(KeyUnavailable):
        sign(old, b"data")


def test_devices_that_share_a_token_see_and_destroy_their_own_keys_alone(token: SoftToken, keys: TokenKeys) -> None:
    others = TokenKeys(token.parts, OTHER)
    keys.make("device-1", Alg.RS256)
    theirs = others.make("device-1", Alg.RS256)
    keys.destroy("device-1")

    assert (keys.names(), others.names()) == (frozenset(), {"device-1"})
    sign(theirs, b"data")
    others.destroy("device-1")


@pytest.mark.parametrize("lost", HALVES)
def test_half_a_pair_is_named_and_makes_room(token: SoftToken, keys: TokenKeys, lost: ObjectClass) -> None:
    """What is left when a crash comes between the halves: in SoftHSM the public one; of another maker, who knows."""
    before = keys.make("device-1", Alg.RS256)

    def lose(session: Session) -> None:
        uri = replace(token.parts, label=f"fleetward/{ONE}/device-1")
        with writing(session) as able:
            search(able, uri, lost)[0].destroy()

    opened(token).use(lose)
    fresh = TokenKeys(token.parts, ONE)
    assert fresh.names() == {"device-1"}

    made = fresh.make("device-1", Alg.RS256)

    assert (thumbprint(made) == thumbprint(before)) is (lost is ObjectClass.PUBLIC_KEY)
    fresh.destroy("device-1")
    assert fresh.names() == frozenset()


def test_transport_keys_stay_files_and_device_keys_go_into_the_token(token: SoftToken, tmp_path: Path) -> None:
    keys = key_store(tmp_path / "keys", token.uri, FILES, tmp_path, OTHER)
    device, _ = keys.make("device-1", Alg.RS256), keys.make("transport-1", Alg.EDDSA)

    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["transport-1.key.pem"]
    assert every_label(token).count(f"fleetward/{OTHER}/device-1") == 2
    assert thumbprint(keys.open("device-1")) == thumbprint(device)
    for name in keys.names():
        keys.destroy(name)
    assert keys.names() == frozenset()


def test_a_device_key_from_before_the_token_works_until_it_is_replaced(token: SoftToken, tmp_path: Path) -> None:
    before = FileKeys(tmp_path / "keys").make("device-old", Alg.RS256)
    keys = key_store(tmp_path / "keys", token.uri, FILES, tmp_path, OTHER)

    assert thumbprint(keys.open("device-old")) == thumbprint(before)
    keys.destroy("device-old")
    assert (keys.names(), list((tmp_path / "keys").iterdir())) == (frozenset(), [])


def test_a_uri_for_device_keys_names_a_token_and_no_key(token: SoftToken, tmp_path: Path) -> None:
    assert token_alone(token.uri, tmp_path) == token.parts
    with pytest.raises(KeyUnavailable, match="name the token alone"):
        token_alone(token.key("device-1"), tmp_path)
