"""What the register says gets to MOSIP, once, whatever happens between, at both registers of 1.1.

Over real TLS to the sandbox, under a simulated clock; ``mosiphouse.py`` says who plays what.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import LocalMistake
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.queue import TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.state import Presence
from tests.live.mosiphouse import L0, L1, START, fresh, office
from tests.mosip import Scanner

pytestmark = pytest.mark.live


@pytest.mark.parametrize("scanner", [L0, L1], ids=["L0", "L1"])
def test_device_info_as_sbi_1_0_spells_it_has_a_clear_outcome(here, scanner):
    here.deaf.add(scanner.id)
    here.add(scanner, purpose=scanner.purpose, certification=scanner.level, device_info=scanner.info_as_sbi(START))
    here.work()
    (task,) = here.tasks(scanner)
    if here.table.profile == Profile.MASTERDATA:
        assert here.code(scanner) == "code-1"
    else:
        # Partner management knows L0 and L1 alone, and what the device signed cannot be said otherwise.
        assert (task.state, task.code) == ("dead", "PMS_AUT_011")


def test_a_task_at_which_our_own_code_stumbles_lets_the_others_go(pms, monkeypatch):
    other = Scanner(3)
    pms.add(L0, device_info=L0.info(START))
    pms.connector.plan(pms.clock.now)
    asked = Voice.asked

    def stumbling(voice, task, device, now):
        if device.id == L0.id:
            raise LocalMistake("stumbled")
        return asked(voice, task, device, now)

    monkeypatch.setattr(Voice, "asked", stumbling)
    with pytest.raises(LocalMistake):
        pms.connector.step(pms.clock.now)
    pms.connector.set_aside(pms.clock.now)
    # Nobody is set aside for what happens elsewhere.
    pms.add(other)
    pms.work()
    pms.connector.set_aside(pms.clock.now)
    assert pms.code(other) is not None
    (task,) = pms.tasks(L0)
    assert (task.state, task.code) == ("waiting", "own-mistake")
    monkeypatch.undo()
    pms.work_for(minutes=6)
    assert pms.code(L0) is not None


@pytest.mark.parametrize("scanner", [L0, L1], ids=["L0", "L1"])
def test_a_device_of_ours_is_registered_there_and_has_its_code(here, scanner):
    here.add(scanner)
    here.work()
    assert here.told(scanner) == [("register", "done", "code-1")]
    assert here.code(scanner) == "code-1"
    assert here.mosip.done == [("register", "code-1")]


def test_nothing_is_told_twice_of_a_device_that_stays(here):
    here.add(L0)
    here.work_for(minutes=30, every_s=60)
    assert here.mosip.done == [("register", "code-1")]


@pytest.mark.parametrize("state", [State.REVOKED, State.RETIRED])
def test_who_is_gone_here_is_deregistered_there(here, state):
    here.add(L0)
    here.work()
    here.change(L0, state=state)
    here.work()
    assert here.mosip.done == [("register", "code-1"), ("deregister", "code-1")]
    assert here.told(L0)[1] == ("deregister", "done", "code-1")
    assert here.code(L0) is None


def test_who_was_never_told_of_is_not_taken_back(here):
    here.add(L0, presence=Presence.OFFLINE)
    here.work()
    here.retire(L0)
    here.work()
    assert here.told(L0) == [("register", "dropped", None)]
    assert here.mosip.asked == {}


@pytest.mark.parametrize("state", [State.PENDING, State.APPROVED, State.REFUSED])
def test_who_is_not_registered_here_is_not_told_of(here, state):
    here.add(L0, state=state)
    here.work()
    assert here.tasks(L0) == []


def test_device_info_is_asked_for_when_it_is_too_old_and_taken_as_it_came(pms):
    pms.add(L0, device_info=L0.info(START))
    pms.clock.go(minutes=3)
    pms.work(until=lambda: bool(pms.store.commands(open_only=True)))
    (command,) = pms.store.commands()
    assert (command.verb, command.actor, command.reason) == ("collect-info", "server", "for MOSIP")
    pms.work()
    assert pms.told(L0) == [("register", "done", "code-1")]


def test_fresh_device_info_is_used_without_asking(pms):
    pms.add(L0, device_info=L0.info(START))
    pms.clock.go(seconds=90)
    pms.work()
    assert (pms.code(L0), pms.tasks(L0)[0].asked) == ("code-1", None)


def test_a_device_is_asked_once_more_so_that_it_learns_its_code(here):
    here.add(L0, device_info=L0.info(START))
    here.work(until=lambda: here.code(L0) is not None)
    (command,) = here.store.commands()
    assert (command.verb, command.reason) == ("collect-info", "for MOSIP")


def test_a_device_that_is_away_is_waited_for(here):
    here.add(L0, presence=Presence.OFFLINE)
    here.work_for(minutes=30, every_s=60)
    assert here.store.commands() == ()
    here.change(L0, presence=Presence.ONLINE)
    here.work()
    assert here.code(L0) == "code-1"


def test_a_device_that_does_not_answer_is_asked_again_and_others_are_not_kept(pms):
    pms.deaf.add(L0.id)
    pms.add(L0, Scanner(3))
    pms.work_for(minutes=12, every_s=30)
    assert pms.code(Scanner(3)) == "code-1"
    assert pms.code(L0) is None
    assert 2 <= len(pms.store.commands(pms.tasks(L0)[0].device_id)) <= 4
    pms.deaf.clear()
    pms.work_for(minutes=6, every_s=30)
    assert pms.code(L0) == "code-2"


def test_an_hour_without_mosip_loses_nothing_and_doubles_nothing(here):
    before, during = [Scanner(n) for n in range(10, 15)], [Scanner(n) for n in range(20, 25)]
    here.add(*before)
    here.work()
    here.served.stop()
    try:
        here.add(*during)
        here.retire(before[0])
        here.work_for(minutes=60, every_s=20)
        assert len(here.mosip.done) == 5
        assert len(here.open_tasks()) == 6
        tries = sum(task.attempts for task in here.open_tasks())
        assert 5 <= tries <= 40, tries
        assert here.connector.pause.why is not None
        assert here.connector.pause.why.code == "no-connection"
    finally:
        here.served.start()
    here.work_for(minutes=10, every_s=20)
    assert here.open_tasks() == []
    counted = Counter(here.mosip.done)
    assert set(counted.values()) == {1}
    assert sum(1 for act, _ in counted if act == "register") == 10
    assert [act for act, _ in counted if act == "deregister"] == ["deregister"]
    assert {row.history for row in here.mosip.register.rows.values()} == {("Registered",), ("Registered", "Retired")}


@pytest.mark.parametrize("act", ["register", "deregister"])
def test_a_crash_between_the_answer_and_the_commit_doubles_nothing(pms, act, monkeypatch):
    pms.add(L0)
    if act == "deregister":
        pms.work()
        pms.retire(L0)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pms.connector, "_done", crash)
    with pytest.raises(KeyboardInterrupt):
        pms.work()
    assert pms.mosip.done[-1] == (act, "code-1")
    pms.connector = pms.connected()
    pms.work()
    assert Counter(pms.mosip.done)[act, "code-1"] == 1
    assert pms.told(L0)[-1] == (act, "done", "code-1")
    assert pms.code(L0) == ("code-1" if act == "register" else None)


def test_a_lost_answer_of_masterdata_leaves_its_code_unknown_and_says_so(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.MASTERDATA) as here:
        served.mosip.quirks.set(Quirk.LOSE_ANSWER, 1)
        here.add(L0)
        here.work_for(minutes=2)
        assert [(task.state, task.code, task.device_code) for task in here.tasks(L0)] == [("done", "ADM-DPM-043", None)]
        here.retire(L0)
        here.work()
        dead = here.tasks(L0)[-1]
        assert (dead.act, dead.state, dead.code) == ("deregister", "dead", "no-device-code")


def test_a_lost_answer_of_partner_management_is_found_again(pms):
    pms.mosip.quirks.set(Quirk.LOSE_ANSWER, 1)
    pms.add(L0)
    pms.work_for(minutes=2)
    (task,) = pms.tasks(L0)
    assert (task.state, task.code, task.device_code) == ("done", "PMS_AUT_015", "code-1")
    assert pms.mosip.done == [("register", "code-1")]


def test_retired_after_a_lost_answer_is_deregistered(pms):
    pms.mosip.quirks.set(Quirk.LOSE_ANSWER, 1)
    pms.add(L0)
    pms.work()
    pms.retire(L0)
    pms.work_for(minutes=2)
    assert pms.mosip.done == [("register", "code-1"), ("deregister", "code-1")]


def test_another_devices_code_is_never_taken_for_ours(pms):
    twin = Scanner(1, digital_id_ms=True)
    pms.add(twin)
    pms.work()
    rows = pms.mosip.register.rows
    key = next(iter(rows))
    rows[key] = replace(rows[key], device_id="somebody else")
    pms.change(twin, device_code=None)
    with pms.store.unit() as unit:
        unit.put_mosip_task(replace(pms.tasks(twin)[0], device_code=None))
    pms.retire(twin)
    pms.work()
    assert (pms.tasks(twin)[-1].state, pms.tasks(twin)[-1].code) == ("dead", "no-device-code")
    assert pms.mosip.done == [("register", "code-1")]


def test_an_l1_without_its_makers_id_is_not_even_sent(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, trust_provider_id="") as here:
        here.add(L1, L0)
        here.work()
        assert (here.tasks(L1)[0].state, here.tasks(L1)[0].code) == ("dead", "no-trust-provider")
        assert here.code(L0) == "code-1"


def test_a_device_that_another_profile_knew_is_told_of_within_ten_minutes(pms):
    pms.add(L0, device_code="of another register")
    pms.connector.plan(pms.clock.now - timedelta(minutes=9))
    with pms.store.unit() as unit:
        unit.put_mosip_task(replace(pms.tasks(L0)[0], state=TaskState.DROPPED, profile=Profile.MASTERDATA))
    pms.work()
    assert len(pms.tasks(L0)) == 1
    pms.work_for(minutes=2, every_s=20)
    assert pms.code(L0) == "code-1"


def test_who_is_reinstated_is_registered_again_and_keeps_its_code_at_partner_management(here):
    here.add(L0)
    for state in (State.RETIRED, State.APPROVED, State.REGISTERED):
        here.work()
        here.change(L0, state=state)
    here.work()
    assert [act for act, _ in here.mosip.done] == ["register", "deregister", "register"]
    same = here.table.profile == Profile.PMS
    assert here.code(L0) == ("code-1" if same else "code-2")


def test_who_is_quarantined_stays_known_to_mosip(here):
    here.add(L0)
    here.work()
    here.change(L0, state=State.QUARANTINED)
    here.work()
    assert here.mosip.done == [("register", "code-1")]


def test_a_device_has_one_open_task_and_no_second(pms):
    pms.add(L0, presence=Presence.OFFLINE)
    pms.work()
    (task,) = pms.tasks(L0)
    with pytest.raises(LocalMistake, match="UNIQUE"), pms.store.unit() as unit:
        unit.put_mosip_task(replace(task, number=0))
    assert pms.tasks(L0) == [task]


def test_what_was_told_is_in_the_audit_with_its_code(here):
    here.add(L0)
    here.work()
    here.retire(L0)
    here.work()
    entries = [(link.entry.action, link.entry.detail) for link in here.store.history(here.tasks(L0)[0].device_id)]
    assert entries == [("mosip-register", "code-1"), ("mosip-deregister", "code-1")]
