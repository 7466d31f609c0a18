"""What MOSIP may answer the connector, and what each answer costs: refusals, faults, words that are not its own.

Over real TLS to the sandbox, under a simulated clock; ``mosiphouse.py`` says who plays what.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_sandbox.mosip.pki import pem
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.identity import Purpose
from fleetward_server.mosip.queue import MOST_UNKNOWN, TaskState
from fleetward_server.mosip.settings import Profile
from tests.live.mosiphouse import L0, L1, START, fresh, office
from tests.mosip import Scanner

pytestmark = pytest.mark.live
REFUSED = {
    "not approved": ("models", set(), {Profile.PMS: "PMS_AUT_018"}),
    "not white-listed": ("listed", set(), {Profile.MASTERDATA: "ADM-DPM-042"}),
    "unknown maker": ("trust_providers", set(), {Profile.PMS: "PMS_AUT_019"}),
    "another provider": ("providers", {"x"}, {Profile.PMS: "PMS_AUT_022"}),
}


@pytest.mark.parametrize(("name", "value", "codes"), REFUSED.values(), ids=list(REFUSED))
def test_what_mosip_refuses_lies_aside_with_its_code_until_somebody_acts(tmp_path, served, clock, name, value, codes):
    fresh(served.mosip, clock)
    ((profile, code),) = codes.items()
    with office(tmp_path, served, clock, profile) as here:
        before = getattr(served.mosip.register, name)
        setattr(served.mosip.register, name, value)
        scanner = replace(L1, purpose=Purpose.REGISTRATION)
        here.add(scanner, Scanner(3))
        here.work_for(minutes=20, every_s=60)
        task = here.tasks(scanner)[0]
        assert (task.state, task.code, task.attempts) == ("dead", code, 1)
        assert task.detail
        setattr(served.mosip.register, name, before)
        with here.store.unit() as unit:
            unit.put_mosip_task(replace(task, state=TaskState.WAITING))
        here.work()
        assert here.code(scanner) is not None


def test_a_clock_of_mosips_that_goes_wrong_has_the_device_asked_anew(pms, monkeypatch):
    wrong_for, wrong_by = timedelta(minutes=5), timedelta(minutes=4)
    monkeypatch.setattr(pms.mosip, "now", lambda: pms.clock.now + (pms.clock.now - START < wrong_for) * wrong_by)
    pms.add(L0)
    pms.work_for(minutes=4, every_s=10)
    task = pms.tasks(L0)[0]
    assert task.code == "PMS_AUT_012"
    assert len(pms.store.commands()) >= 2
    pms.work_for(minutes=10, every_s=10)
    assert pms.told(L0) == [("register", "done", "code-1")]


AWAY = {
    Quirk.HTML: "not-json",
    Quirk.UNAVAILABLE: "bad-status",
    Quirk.HANG: "timed-out",
    Quirk.DRIP: "timed-out",
    Quirk.CUT: "cut-off",
    Quirk.NOT_JSON: "not-json",
    Quirk.HUGE: "too-large",
    Quirk.LOSE_ANSWER: "cut-off",
}


@pytest.mark.parametrize(("quirk", "code"), AWAY.items(), ids=list(AWAY))
def test_a_mosip_that_is_none_costs_a_pause_and_no_task(here, quirk, code):
    if code == "timed-out":
        here.hurry()
    here.mosip.quirks.set(quirk, 1)
    here.add(L0)
    here.work()
    assert here.connector.pause.why is not None
    assert here.connector.pause.why.code == code
    assert here.tasks(L0)[0].code == code
    here.work_for(minutes=1)
    assert here.tasks(L0)[0].state == "done"
    assert here.connector.pause.why is None
    assert Counter(here.mosip.done) == {("register", "code-1"): 1}


SPOILT = {
    Quirk.FORGED: "bad-signature",
    Quirk.EXPIRED_SIGNER: "unknown-signer",
    Quirk.THUMBPRINT_ONLY: "unknown-signer",
    Quirk.PARTNER_SIGNER: "unknown-signer",
    Quirk.UNSIGNED: "malformed",
}


@pytest.mark.parametrize(("quirk", "said"), SPOILT.items(), ids=list(SPOILT))
def test_an_answer_that_is_not_mosips_is_not_believed(pms, quirk, said):
    pms.mosip.quirks.set(quirk, 4)
    pms.add(L0)
    pms.work()
    task = pms.tasks(L0)[0]
    assert (task.state, task.code) == ("waiting", "bad-answer")
    assert said in (task.detail or "")
    assert pms.code(L0) is None


def test_a_code_of_another_device_is_not_taken(here):
    here.mosip.quirks.set(Quirk.OTHER_DEVICE, 1)
    here.add(L0)
    here.work(until=lambda: bool(here.tasks(L0)) and here.tasks(L0)[0].code is not None)
    task = here.tasks(L0)[0]
    assert (task.state, task.code, here.code(L0)) == ("waiting", "bad-answer", None)
    assert "'another'" in (task.detail or "")
    here.work_for(minutes=1)
    # It is registered all the same; partner management can be asked for its code, masterdata cannot.
    assert here.tasks(L0)[0].state == "done"
    assert here.code(L0) == ("code-1" if here.table.profile == Profile.PMS else None)
    assert [act for act, _ in here.mosip.done] == ["register"]


def test_a_thumbprint_of_a_certificate_that_we_hold_is_enough(pms):
    pms.mosip.quirks.set(Quirk.THUMBPRINT_ONLY)
    anchors = MosipAnchors.of_pem(pms.mosip.pki.anchors + pem(pms.mosip.pki.leaf("sign").certificate))
    pms.connector._voice = replace(pms.connector._voice, anchors=anchors)
    pms.add(L0)
    pms.work()
    assert pms.code(L0) == "code-1"


def test_a_failing_keymanager_is_tried_again(pms):
    pms.mosip.quirks.set(Quirk.SIGNING_FAILS, 3)
    pms.add(L0)
    pms.work()
    assert pms.tasks(L0)[0].code == "PMS_AUT_032"
    pms.work_for(minutes=3)
    assert pms.told(L0) == [("register", "done", "code-1")]


def test_a_code_nobody_documented_is_given_up_after_a_while_and_shown(here):
    here.mosip.quirks.set(Quirk.UNKNOWN_CODE)
    here.add(L0)
    here.work_for(minutes=60, every_s=10)
    task = here.tasks(L0)[0]
    assert (task.state, task.code, task.refusals) == ("dead", "XXX-999", MOST_UNKNOWN)


def test_errors_are_read_as_the_specification_spells_them_too(pms):
    pms.mosip.quirks.set(Quirk.ERROR_MEMBER)
    pms.mosip.register.models = set()
    pms.add(L0)
    pms.work()
    assert (pms.tasks(L0)[0].state, pms.tasks(L0)[0].code) == ("dead", "PMS_AUT_018")
