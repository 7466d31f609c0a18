"""Promises of the digital ID: eight strings, one signature, one device id."""

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_sandbox.vector_pki import IDENTITY_A, IDENTITY_B
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import (
    SUB_TYPES,
    Certification,
    DigitalId,
    Environment,
    Purpose,
    ServerId,
    device_id,
    may_serve,
    read_identity,
    sign_identity,
)
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import Role, principal_of

FIELD = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=36)
FOUR = st.tuples(FIELD, FIELD, FIELD, FIELD)


def identity(four):
    provider, make, model, serial = four
    return IDENTITY_A.changed(deviceProviderId=provider, make=make, model=model, serialNo=serial)


def test_a_signed_identity_comes_back_with_its_signer(cast):
    read = read_identity(cast.digital_id_a)
    assert (read.digital_id, read.leaf) == (IDENTITY_A, cast.ftm_a.chain[0])
    assert read.key == cast.ftm_a.key.public_key()


def test_an_identity_is_signed_by_rsa_as_well(cast):
    text = sign_identity(IDENTITY_A, cast.device_a.key, cast.device_a.chain[0])
    assert read_identity(text).digital_id == IDENTITY_A


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "A" * 8193])
def test_what_is_no_digital_id_has_the_one_code(text):
    with pytest.raises(Refused) as refusal:
        read_identity(text)
    assert refusal.value.code is Code.BAD_DIGITAL_ID


def test_a_refusal_never_repeats_what_the_identity_says(cast):
    secret = "x" * 65
    text = sign_identity(IDENTITY_A.changed(serialNo=secret), cast.ftm_a.key, cast.ftm_a.chain[0])
    with pytest.raises(Refused) as refusal:
        read_identity(text)
    assert secret not in refusal.value.detail


def test_the_id_is_what_the_wire_says_in_words():
    raw = b"".join(len(f).to_bytes(2, "big") + f for f in (b"EXAMPLE", b"Example", b"Slap 5", b"SN-0001"))
    assert device_id(IDENTITY_A) == base64.b32encode(hashlib.sha256(raw).digest()).decode().lower()[:26]


@given(FOUR, FOUR)
def test_no_two_devices_share_an_id(one, other):
    assert (device_id(identity(one)) == device_id(identity(other))) == (one == other)


@given(FOUR)
def test_every_device_id_is_a_principal(four):
    principal = principal_of(device_id(identity(four)))
    assert principal is not None
    assert principal.role is Role.DEVICE


def test_only_the_moment_of_issue_may_differ_in_one_device():
    later = IDENTITY_A.at(datetime(2027, 1, 1, tzinfo=UTC))
    assert (later.dateTime, device_id(later)) == ("2027-01-01T00:00:00Z", device_id(IDENTITY_A))
    assert later.same_device(IDENTITY_A)
    assert not IDENTITY_B.same_device(IDENTITY_A)


@pytest.mark.parametrize(("kind", "sub"), [(kind, sub) for kind, subs in SUB_TYPES.items() for sub in subs])
def test_every_sub_type_of_a_type_is_taken(kind, sub):
    assert DigitalId.read(IDENTITY_A.document() | {"type": kind, "deviceSubType": sub})


@pytest.mark.parametrize("change", [{"type": "Finger", "deviceSubType": "Double"}, {"type": "finger"}, {"x": "y"}])
def test_anything_else_is_no_digital_id(change):
    with pytest.raises(Refused):
        DigitalId.read(IDENTITY_A.document() | change)


def test_the_servers_identity_is_signed_like_a_devices_and_is_none(cast):
    said = ServerId(deviceProvider="P", deviceProviderId="I", env=Environment.STAGING, dateTime="2026-03-01T00:00:00Z")
    with pytest.raises(Refused):
        read_identity(sign_identity(said, cast.server.key, cast.server.chain[0]))


def test_capture_for_authentication_needs_l1():
    lawful = {(level, use) for level in Certification for use in Purpose if may_serve(level, use)}
    assert lawful == set(map(tuple, [("L0", "Registration"), ("L1", "Registration"), ("L1", "Auth")]))


MISSPELLED = (
    *("production", "PRODUCTION", "Prod", "Preproduction", "PreProduction", "Pre-production", "Pre Production"),
    *("Pre\u2011Production", "Pre_Production", "Development", "developer", "Dev", "Stage", "staging", "Staging "),
    *(" Staging", "Staging\n", "None", "Test", ""),
)


@pytest.mark.parametrize("word", MISSPELLED)
def test_an_environment_is_spelled_as_mosip_spells_it_or_not_at_all(word):
    assert [str(one) for one in Environment] == ["Staging", "Developer", "Pre-Production", "Production"]
    with pytest.raises(ValueError, match="is not a valid Environment"):
        Environment(word)
    told = {"domainUri": "https://id.example.org", "certificates": [show_der(b"any")]}
    for one in Environment:
        assert Encryption.read(told | {"env": str(one)}).env is one
    with pytest.raises(Refused, match="env"):
        Encryption.read(told | {"env": word})
