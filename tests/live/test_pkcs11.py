"""Keys in a real token: made there, looked at when opened, never out; builders take them as they are."""

import copy
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11.util.rsa import decode_rsa_private_key

from fleetward_broker import profiles
from fleetward_broker.key_problems import KeyUnavailable, TokenLost
from fleetward_broker.pkcs11 import Token, module_at
from fleetward_broker.pkcs11_uri import show_uri
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import make_key, open_key
from fleetward_broker.token_keys import has_token_key, make_token_key
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.jws import Alg, sign, verify

pytestmark = [pytest.mark.live, pytest.mark.part]
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def token_of(hsm: SoftToken) -> Token:
    return module_at(hsm.module).token(hsm.parts)


@pytest.mark.parametrize("alg", list(Alg))
def test_a_key_made_in_the_token_is_opened_by_its_uri_and_signs(hsm: SoftToken, alg: Alg) -> None:
    key = open_key(hsm.key(alg))
    verify(key.public_key(), b"data", sign(key, b"data"))


@pytest.mark.parametrize("alg", list(Alg))
def test_certificates_requests_and_lists_are_signed_in_the_token(hsm: SoftToken, alg: Alg) -> None:
    key = open_key(hsm.key(alg))
    root = Issuer(profiles.self_signed(Subject("root", "x"), key, NOW), key)

    leaf = profiles.issue(profiles.DEVICE, Subject("d", "x"), make_key(Alg.EDDSA).public_key(), root, start=NOW)
    crl = profiles.revocation_list(root, {7: NOW}, number=1, now=NOW)

    leaf.verify_directly_issued_by(root.certificate)
    assert profiles.request("d", key).is_signature_valid
    assert crl.is_signature_valid(key.public_key())


def test_openssl_takes_what_the_token_signed(hsm: SoftToken, tmp_path: Path) -> None:
    key = open_key(hsm.key(Alg.RS256))
    now = datetime.now(UTC) - timedelta(minutes=1)
    root = Issuer(profiles.self_signed(Subject("root", "x"), key, now), key)
    leaf = profiles.issue(profiles.DEVICE, Subject("d", "x"), make_key(Alg.EDDSA).public_key(), root, start=now)
    for name, one in (("root", root.certificate), ("leaf", leaf)):
        (tmp_path / name).write_bytes(one.public_bytes(serialization.Encoding.PEM))

    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(tmp_path / "root"), str(tmp_path / "leaf")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_key_never_leaves_its_token_and_only_signs_rs256(hsm: SoftToken) -> None:
    key = open_key(hsm.key(Alg.RS256))
    assert isinstance(key, rsa.RSAPrivateKey)
    assert copy.deepcopy(key) is copy.copy(key) is key

    for out in (key.private_numbers, lambda: key.decrypt(b"", padding.PKCS1v15())):
        with pytest.raises(LocalMistake, match="never leaves"):
            out()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    with pytest.raises(UnsupportedAlgorithm):
        key.sign(b"data", pss, hashes.SHA256())


def test_a_label_is_given_once(hsm: SoftToken) -> None:
    uri = hsm.key("once")
    assert not has_token_key(uri)
    make_token_key(uri, Alg.EDDSA)

    with pytest.raises(KeyUnavailable, match="holds a key 'once' already; nothing was made"):
        make_token_key(uri, Alg.EDDSA)
    assert has_token_key(uri)


def test_a_key_is_found_by_serial_and_id_and_in_a_session_that_writes(hsm: SoftToken) -> None:
    serial, key_id = token_of(hsm).use(
        lambda s: (s.token.serial, s.get_key(ObjectClass.PRIVATE_KEY, label=Alg.EDDSA).id)
    )
    uri = replace(hsm.parts, token="", serial=serial.decode().strip(), id=key_id, rw=True)

    key = open_key(show_uri(uri))

    verify(open_key(hsm.key(Alg.EDDSA)).public_key(), b"data", sign(key, b"data"))


def generated(hsm: SoftToken, label: str, private: dict[Attribute, bool], key_id: bytes = b"\1") -> None:
    """Make a key as somebody else's tool may."""

    def act(session: Any) -> None:
        capabilities = MechanismFlag.SIGN | MechanismFlag.VERIFY
        with session.token.open(rw=True) as writing:
            wish = {"label": label, "id": key_id, "store": True, "capabilities": capabilities}
            writing.generate_keypair(KeyType.RSA, 2048, private_template=private, **wish)

    token_of(hsm).use(act)


def imported(hsm: SoftToken, label: str) -> None:
    der = make_key(Alg.RS256).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    made = decode_rsa_private_key(der, MechanismFlag.SIGN)
    made |= {Attribute.LABEL: label, Attribute.TOKEN: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}

    def act(session: Any) -> None:
        with session.token.open(rw=True) as writing:
            writing.create_object(made)

    token_of(hsm).use(act)


@pytest.mark.parametrize(
    ("private", "named"),
    [
        ({Attribute.SENSITIVE: False}, "CKA_SENSITIVE is False, must be True"),
        ({Attribute.EXTRACTABLE: True}, "CKA_NEVER_EXTRACTABLE is False, must be True"),
        ({Attribute.SIGN: False}, "CKA_SIGN is False, must be True"),
        ({Attribute.EXTRACTABLE: False}, None),
    ],
)
def test_a_key_that_may_leave_its_token_is_refused_by_name(hsm: SoftToken, private: Any, named: str | None) -> None:
    label = f"generated {named}"
    generated(hsm, label, private)

    if named is None:
        open_key(hsm.key(label))
        return
    with pytest.raises(KeyUnavailable, match=f"key 'generated .*': {named}"):
        open_key(hsm.key(label))


def test_a_key_that_was_outside_is_refused(hsm: SoftToken) -> None:
    imported(hsm, "imported")
    with pytest.raises(KeyUnavailable, match="'imported': CKA_ALWAYS_SENSITIVE is False"):
        open_key(hsm.key("imported"))


def test_a_public_key_of_another_private_key_is_refused(hsm: SoftToken) -> None:
    private = {Attribute.EXTRACTABLE: False}
    generated(hsm, "one", private, b"one")
    generated(hsm, "two", private, b"two")

    def swap(session: Any) -> None:
        with session.token.open(rw=True) as writing:
            writing.get_key(ObjectClass.PUBLIC_KEY, label="one").destroy()
            other = writing.get_key(ObjectClass.PUBLIC_KEY, label="two")
            other[Attribute.LABEL], other[Attribute.ID] = "one", b"one"

    token_of(hsm).use(swap)
    with pytest.raises(KeyUnavailable, match="'one': the signature does not fit"):
        open_key(hsm.key("one"))


def test_two_keys_of_one_label_are_told_apart_by_id(hsm: SoftToken) -> None:
    for key_id in (b"\1", b"\2"):
        generated(hsm, "twins", {Attribute.EXTRACTABLE: False}, key_id)

    with pytest.raises(KeyUnavailable, match="2 private keys 'twins'; add id="):
        open_key(hsm.key("twins"))
    open_key(show_uri(replace(hsm.parts, label="twins", id=b"\2")))


def test_what_is_not_there_is_named(hsm: SoftToken) -> None:
    with pytest.raises(KeyUnavailable, match="token 'our fleet': no private key 'gone'"):
        open_key(hsm.key("gone"))
    with pytest.raises(TokenLost, match="token 'another': lost, or never there"):
        open_key(show_uri(replace(hsm.parts, token="another", label="a")))
    with pytest.raises(KeyUnavailable, match="no such PKCS#11 module"):
        open_key(show_uri(replace(hsm.parts, module=Path("/nowhere/p11.so"), label="a")))
    verify(open_key(hsm.key(Alg.EDDSA)).public_key(), b"x", sign(open_key(hsm.key(Alg.EDDSA)), b"x"))
