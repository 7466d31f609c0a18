"""What MOSIP is told since 1.2, where a serial number is the code: who is gone is on the hotlist, once."""

import pytest

from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_schemas.enrol import State
from tests.live.mosiphouse import L0
from tests.mosip import Scanner

pytestmark = pytest.mark.live


def test_since_1_2_an_hour_without_mosip_blocks_each_who_went_once(crypto):
    stays, goes, comes_back = Scanner(10), Scanner(11), Scanner(12)
    crypto.add(stays, goes, comes_back)
    crypto.work()
    crypto.served.stop()
    try:
        crypto.retire(goes)
        crypto.change(comes_back, state=State.REVOKED)
        crypto.work_for(minutes=30, every_s=20)
        # A connector that knows nothing but the store goes on where the other was.
        crypto.connector = crypto.connected()
        crypto.change(comes_back, state=State.REGISTERED)
        crypto.work_for(minutes=30, every_s=20)
        assert (crypto.mosip.done, len(crypto.open_tasks())) == ([], 2)
    finally:
        crypto.served.start()
    crypto.work_for(minutes=10, every_s=20)
    assert crypto.open_tasks() == []
    assert crypto.mosip.register.hotlist == {
        ("DEVICE", "SN-0011AcmeSlap-4"): ["BLOCKED"],
        ("DEVICE", "SN-0012AcmeSlap-4"): ["BLOCKED", "UNBLOCKED"],
    }
    assert {act for act, _ in crypto.mosip.done} == {"hotlist", "unblock"}


def test_since_1_2_a_serial_number_is_the_code_and_nothing_is_told(crypto):
    crypto.add(L0)
    crypto.work()
    assert crypto.code(L0) == "SN-0001"
    assert crypto.mosip.asked == {}


@pytest.mark.parametrize("state", [State.REVOKED, State.RETIRED])
def test_since_1_2_who_is_gone_is_on_the_hotlist_once(crypto, state):
    crypto.add(L0)
    crypto.work()
    crypto.change(L0, state=state)
    crypto.work_for(minutes=10, every_s=30)
    assert crypto.mosip.register.hotlist == {("DEVICE", "SN-0001AcmeSlap-4"): ["BLOCKED"]}
    assert crypto.mosip.asked["/v1/hotlist/block"] == 1


def test_since_1_2_who_is_reinstated_is_taken_off_the_hotlist_and_put_on_it_again(crypto):
    crypto.add(L0)
    for state in (State.REVOKED, State.REGISTERED, State.RETIRED):
        crypto.change(L0, state=state)
        crypto.work()
    assert crypto.mosip.register.hotlist == {("DEVICE", "SN-0001AcmeSlap-4"): ["BLOCKED", "UNBLOCKED", "BLOCKED"]}
    crypto.change(L0, state=State.REGISTERED)
    crypto.work()
    assert crypto.code(L0) == "SN-0001"


def test_who_was_never_blocked_is_off_the_hotlist_already(crypto):
    crypto.add(L0, state=State.REVOKED)
    crypto.work()
    crypto.mosip.register.hotlist.clear()
    crypto.change(L0, state=State.REGISTERED)
    crypto.work()
    assert crypto.told(L0)[-1][:2] == ("unblock", "done")


def test_a_lost_answer_of_the_hotlist_is_asked_for_again_and_blocks_no_second_device(crypto):
    crypto.mosip.quirks.set(Quirk.LOSE_ANSWER, 1)
    crypto.add(L0, state=State.REVOKED)
    crypto.work_for(minutes=2)
    (task,) = crypto.tasks(L0)
    assert (task.state, task.attempts) == ("done", 2)
    assert crypto.mosip.register.hotlist == {("DEVICE", "SN-0001AcmeSlap-4"): ["BLOCKED", "BLOCKED"]}


def test_a_hotlist_without_our_kind_of_id_lies_aside_with_its_code(crypto, monkeypatch):
    monkeypatch.setattr("fleetward_sandbox.mosip.register.ID_TYPES", ("UIN", "VID"))
    crypto.add(L0, state=State.REVOKED)
    crypto.work()
    (task,) = crypto.tasks(L0)
    assert (task.state, task.code) == ("dead", "ADM-HTL-003")
