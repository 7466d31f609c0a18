"""Promises of the token: three strict segments, two algorithms, and a key's type decides."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.jws import MAX_HEADER_CHARS, Alg, alg_of, approved, compact, header_alg, sign, split, verify
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, b64url

ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
HEADER = b64url(b'{"alg":"EdDSA"}').encode()
GOOD = compact(HEADER, b"payload", ED)


def code_of(function, *arguments):
    with pytest.raises(Refused) as refusal:
        function(*arguments)
    return refusal.value.code


@pytest.fixture(scope="module")
def rsa_key(cast):
    return cast.device_a.key


def test_a_token_comes_apart_as_it_was_put_together():
    token = split(GOOD)
    assert (token.header, token.payload) == ({"alg": "EdDSA"}, b"payload")
    verify(ED.public_key(), token.signed, token.signature)


def test_both_algorithms_sign_what_another_library_verifies(rsa_key):
    for key, alg in ((ED, "EdDSA"), (rsa_key, "RS256")):
        raw = compact(b64url(b'{"alg":"%s"}' % alg.encode()).encode(), b"payload", key)
        assert jwt.PyJWS().decode(raw, key.public_key(), algorithms=[alg]) == b"payload"


@pytest.mark.parametrize("place", range(0, len(GOOD), 7))
def test_no_changed_character_is_believed(place):
    raw = GOOD[:place] + (b"A" if GOOD[place : place + 1] != b"A" else b"B") + GOOD[place + 1 :]
    assert code_of(believe, raw) in {Code.MALFORMED, Code.BAD_SIGNATURE}


def believe(raw):
    token = split(raw)
    verify(ED.public_key(), token.signed, token.signature)


@given(st.binary(max_size=120))
def test_no_foreign_bytes_are_believed(raw):
    assert code_of(believe, raw) in {Code.MALFORMED, Code.BAD_SIGNATURE}


@given(st.binary(max_size=64))
def test_no_foreign_signature_is_believed(signature):
    assert code_of(verify, ED.public_key(), b"data", signature) is Code.BAD_SIGNATURE


def test_an_rsa_signature_of_another_length_is_a_bad_signature(rsa_key):
    good = sign(rsa_key, b"data")
    verify(rsa_key.public_key(), b"data", good)
    for bad in (b"", good[1:], good + b"\0", good[:-1] + bytes([good[-1] ^ 1])):
        assert code_of(verify, rsa_key.public_key(), b"data", bad) is Code.BAD_SIGNATURE


def test_a_message_over_48_kib_is_too_large_before_it_is_read():
    assert code_of(split, b"." * (MAX_ENVELOPE_BYTES + 1)) is Code.TOO_LARGE
    assert code_of(split, b"." * MAX_ENVELOPE_BYTES) is Code.MALFORMED


def test_a_long_header_is_malformed():
    longest = HEADER + b" " * 0
    assert split(longest + b".QQ.")
    header = b64url(b'{"alg":"EdDSA"}' + b" " * MAX_HEADER_CHARS).encode()
    assert code_of(split, header + b".QQ.") is Code.MALFORMED


@pytest.mark.parametrize("raw", [b"", b".", b"..", b"e30", b"e30.e30", b"e30.e30.e30.e30", b".e30.QQ", b"e30..QQ"])
def test_a_token_has_three_segments(raw):
    assert code_of(split, raw) is Code.MALFORMED


@pytest.mark.parametrize("name", ["none", "None", "HS256", "ES256", "PS256", "RS384", "RS512", "Ed25519", "eddsa", ""])
def test_every_other_algorithm_is_refused_by_name(name):
    assert code_of(header_alg, {"alg": name}) is Code.BAD_ALG


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": ["RS256"]}, {"alg": 256}])
def test_a_header_without_a_named_algorithm_is_malformed(header):
    assert code_of(header_alg, header) is Code.MALFORMED


@pytest.mark.parametrize("name", list(Alg))
def test_the_two_algorithms_are_read(name):
    assert header_alg({"alg": str(name)}) is name


def test_a_keys_type_decides_its_algorithm(rsa_key):
    assert alg_of(rsa_key) is alg_of(rsa_key.public_key()) is Alg.RS256
    assert alg_of(ED) is alg_of(ED.public_key()) is Alg.EDDSA


def test_no_other_kind_of_key_is_approved():
    keys = [ec.generate_private_key(ec.SECP256R1()), ed448.Ed448PrivateKey.generate()]
    for key in [*keys, *(key.public_key() for key in keys), dsa.DSAParameterNumbers, None, "key"]:
        assert code_of(alg_of, key) is Code.BAD_ALG


@pytest.mark.parametrize(("bits", "e"), [(1024, 65537), (2047, 65537), (4104, 65537), (2048, 3), (2048, 2**32 + 1)])
def test_rsa_has_2048_to_4096_bits_and_the_one_exponent(bits, e):
    key = rsa.RSAPublicNumbers(e, (1 << (bits - 1)) + 1).public_key()
    assert code_of(alg_of, key) is Code.BAD_ALG


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_of_the_approved_sizes_is_approved(bits):
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    assert approved(key) is key


def test_a_private_key_in_a_public_ones_place_is_our_mistake():
    with pytest.raises(LocalMistake):
        approved(ED)
