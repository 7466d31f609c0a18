"""Promises of device info: MOSIP's words, signed by the device key, and nothing riding along."""

import pytest

from fleetward_sandbox.vector_cases import dumps, sealed, signer
from fleetward_sandbox.vector_pki import NOW
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.inventory import DeviceInfo, DeviceStatus, read_info, sign_info
from fleetward_schemas.moment import show
from fleetward_schemas.strict import show_der


@pytest.fixture(scope="module")
def info(cast):
    return {
        "deviceId": "SN-0001",
        "deviceCode": "code",
        "deviceStatus": "Ready",
        "deviceSubId": ["1"],
        "certification": "L1",
        "serviceVersion": "1",
        "firmware": "1",
        "specVersion": ["0.9.5"],
        "purpose": "Auth",
        "env": "Staging",
        "digitalId": cast.digital_id_a,
        "timestamp": show(NOW),
    }


def token(cast, info, **header):
    plain = {"alg": "EdDSA", "typ": "JWT", "x5c": [show_der(cast.device_b.chain[0])]} | header
    return sealed(dumps(plain), dumps(info), signer(cast.device_b.key))


def read(cast, text):
    return read_info(text, thumbprint(cast.device_b.chain[0]))


def test_what_is_signed_is_read(cast, info):
    model = DeviceInfo.read(info)
    assert read(cast, sign_info(model, cast.device_b.key, cast.device_b.chain[0])) == model
    assert read(cast, token(cast, info)) == model


@pytest.mark.parametrize("status", list(DeviceStatus))
def test_the_four_states_of_mosip_are_read(cast, info, status):
    assert read(cast, token(cast, info | {"deviceStatus": str(status)})).deviceStatus is status


@pytest.mark.parametrize(
    "change",
    [
        {"bioImage": ""},
        {"deviceStatus": "ready"},
        {"deviceSubId": ["4"]},
        {"deviceSubId": ["1"] * 5},
        {"certification": "L2"},
        {"firmware": ""},
        {"specVersion": []},
        {"env": "staging"},
        {"timestamp": "2026-03-01T12:00:00Z"},
    ],
)
def test_device_info_says_nothing_else(cast, info, change):
    assert refused(cast, token(cast, info | change))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "RS256"},
        {"typ": "fw1+jws"},
        {"note": "anything could ride here"},
        {"x5c": []},
        {"x5c": "MAA="},
        {"x5c": ["MAA="]},
    ],
)
def test_its_header_carries_the_device_certificate_and_nothing_else(cast, info, header):
    assert refused(cast, token(cast, info, **header))


def test_no_second_certificate_rides_along(cast, info):
    assert refused(cast, token(cast, info, x5c=[show_der(one) for one in cast.device_b.chain]))


def test_device_info_by_another_key_than_the_messages_is_refused(cast, info):
    with pytest.raises(Refused) as refusal:
        read_info(token(cast, info), thumbprint(cast.device_a.chain[0]))
    assert refusal.value.code is Code.BAD_BODY


def test_device_info_with_another_signature_is_refused(cast, info):
    assert refused(cast, token(cast, info).rsplit(".", 1)[0] + "." + "A" * 86)
    assert refused(cast, "é.é.é")


def refused(cast, text):
    with pytest.raises(Refused) as refusal:
        read(cast, text)
    return refusal.value.code is Code.BAD_BODY


def sbi(info):
    """Return device info as SBI 1.0 spells it."""
    other = {name: value for name, value in info.items() if name not in {"deviceId", "deviceCode"}}
    return other | {"serialNo": "SN-0001", "certification": "SBI 2.0", "specVersion": ["1.0.0"], "deviceSubId": [1]}


def test_the_spelling_of_sbi_1_0_is_read_as_well(cast, info):
    found = read(cast, token(cast, sbi(info)))
    assert (found.deviceId, found.deviceCode, found.certification) == ("SN-0001", "SN-0001", "L1")
    assert (found.deviceSubId, found.specVersion) == (["1"], ["1.0.0"])


@pytest.mark.parametrize(
    "change",
    [
        {"deviceId": "another"},
        {"deviceCode": "another"},
        {"certification": "SBI 3.0"},
        {"certification": 1},
        {"deviceSubId": [4]},
        {"deviceSubId": [True]},
        {"deviceSubId": [1.0]},
        {"serialNo": ""},
        {"camDimensions": "1"},
    ],
)
def test_a_mixture_of_both_spellings_is_neither(cast, info, change):
    with pytest.raises(Refused) as refusal:
        read(cast, token(cast, sbi(info) | change))
    assert refusal.value.code is Code.BAD_BODY
