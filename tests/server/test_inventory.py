"""Device information at the server: kept as it came, and the device's code told to whoever does not know it."""

from typing import Any

import pytest

from fleetward_schemas.enrol import Enrolled, State
from fleetward_schemas.errors import FINAL_CODES, Code, Refused
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.inventory import DeviceInfo, DeviceStatus, Info, sign_info
from fleetward_schemas.moment import show
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import down
from fleetward_server.changes import AddAudit, AddReport, CountRefusal, PutDevice
from fleetward_server.inventory import on_info
from fleetward_server.turn import Turn
from tests.server.provider import (
    DEVICE_ID,
    ID,
    NOW,
    POLICY,
    Voice,
    device,
    device_speaker,
    key,
    known,
    leaf,
    pair,
    said,
)


def told(own_word: str, code: str | None, digital_id: str = "signed.digital.id", **claims: Any) -> Turn:
    """Have a device that calls itself ``own_word`` describe itself. code: what MOSIP calls it."""
    info = DeviceInfo(
        deviceId=DEVICE_ID,
        deviceCode=own_word,
        deviceStatus=DeviceStatus.READY,
        deviceSubId=["1"],
        certification=Certification.L1,
        serviceVersion="1",
        firmware="1",
        specVersion=["0.9.5"],
        purpose=Purpose.REGISTRATION,
        env=Environment.DEVELOPER,
        digitalId=digital_id,
        timestamp=show(NOW),
    )
    signed = sign_info(info.changed(**claims), key("device key"), leaf("device key", "device"))
    row = device(state=State.REGISTERED, device_code=code)
    word = said("info", Info(deviceInfo=signed), Voice(device_speaker()))
    return on_info(word, known(device=row, chains=pair()), POLICY)


def test_a_device_that_does_not_know_its_code_is_told_with_the_chains_it_holds() -> None:
    (reply,) = told("unassigned", "code-1").replies
    assert reply.topic == down(DEVICE_ID, "enrolled")
    assert isinstance(reply.body, Enrolled)
    assert reply.body.deviceCode == "code-1"
    assert reply.body.deviceChain == [show_der(pair()[0].der), show_der(pair()[0].authority)]
    assert reply.body.transportChain == [show_der(pair()[1].der), show_der(pair()[1].authority)]


@pytest.mark.parametrize(("own_word", "code"), [("code-1", "code-1"), ("unassigned", None), ("anything", None)])
def test_a_device_that_knows_it_or_has_none_is_told_nothing(own_word: str, code: str | None) -> None:
    turn = told(own_word, code)
    assert turn.replies == ()
    (kept,) = [change.device for change in turn.changes if isinstance(change, PutDevice)]
    assert kept.device_info is not None


def test_device_info_with_another_digital_id_brings_nothing() -> None:
    with pytest.raises(Refused) as refusal:
        told("unassigned", "code-1", digital_id="another.digital.id")
    assert refusal.value.code is Code.BAD_BODY


@pytest.mark.parametrize(
    ("claims", "differs"),
    [
        ({"certification": Certification.L0}, "certification L0: the record says L1"),
        ({"purpose": Purpose.AUTH}, "purpose Auth: the record says Registration"),
        ({"env": Environment.PRODUCTION}, "env Production: the record says Developer"),
        (
            {"certification": Certification.L0, "purpose": Purpose.AUTH},
            "certification L0: the record says L1; purpose Auth: the record says Registration",
        ),
    ],
)
def test_a_report_that_contradicts_the_record_is_an_alarm_and_refused_for_good(
    claims: dict[str, Any], differs: str
) -> None:
    turn = told("unassigned", None, **claims)
    assert turn.refused == ((ID, Code.BAD_BODY),)
    assert Code.BAD_BODY in FINAL_CODES
    assert turn.acks == turn.replies == ()
    (entry,) = [change.entry for change in turn.changes if isinstance(change, AddAudit)]
    assert (entry.action, entry.subject, entry.actor, entry.reason) == (
        "contradiction-alarm",
        DEVICE_ID,
        f"device:{DEVICE_ID}",
        differs,
    )
    assert [change.code for change in turn.changes if isinstance(change, CountRefusal)] == [Code.BAD_BODY]
    assert not [change for change in turn.changes if isinstance(change, (PutDevice, AddReport))]
