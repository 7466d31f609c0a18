"""Promises of MOSIP's words for a device: every code has its text, and those we may say have their status."""

import pytest

from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.sbi import ERRORS, STATUS, DeviceError, error


def test_the_codes_are_those_of_mosip():
    assert [int(code) for code in DeviceError] == [0, *range(100, 113)]
    assert ERRORS.keys() == set(DeviceError)
    assert error(DeviceError.DEVICE_KEY_EXPIRED) == {"errorCode": "107", "errorInfo": "Device public key expired"}


def test_every_status_can_be_said_and_ready_alone_without_an_error():
    assert set(STATUS.values()) == set(DeviceStatus)
    assert [code for code, status in STATUS.items() if status is DeviceStatus.READY] == [DeviceError.SUCCESS]


@pytest.mark.parametrize("code", [101, 102, 103, 105, 109, 112])
def test_what_only_a_finger_an_eye_or_a_housing_could_tell_is_never_ours_to_say(code):
    assert DeviceError(code) not in STATUS
