"""What the register says gets to MOSIP, once, whatever happens between: both registers of 1.1, and crypto-only.

Over real TLS to the sandbox, under a simulated clock; ``mosiphouse.py`` says who plays what.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_sandbox.mosip.pki import pem
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.identity import Certification, Purpose
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.queue import MOST_UNKNOWN, TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.state import Presence
from tests.live.mosiphouse import START, Clock, Office, fresh, office, serving
from tests.mosip import Scanner

pytestmark = pytest.mark.live
REGISTERS = [Profile.PMS, Profile.MASTERDATA]
L0, L1 = Scanner(1), Scanner(2, Certification.L1, Purpose.AUTH)


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("mosip"), clock) as running:
        yield running


@pytest.fixture(params=REGISTERS)
def here(request: pytest.FixtureRequest, tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    """A provider in the world of 1.1."""
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, request.param) as made:
        yield made


@pytest.fixture
def pms(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS) as made:
        yield made


@pytest.fixture
def crypto(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.CRYPTO_ONLY) as made:
        yield made


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


def test_an_l1_without_its_makers_id_is_not_even_sent(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, trust_provider_id="") as here:
        here.add(L1, L0)
        here.work()
        assert (here.tasks(L1)[0].state, here.tasks(L1)[0].code) == ("dead", "no-trust-provider")
        assert here.code(L0) == "code-1"


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


def test_one_token_serves_many_and_is_renewed_before_its_end(here):
    here.add(*(Scanner(n) for n in range(40, 45)))
    here.work()
    assert here.mosip.tokens.given == 1
    here.clock.go(seconds=280)
    here.add(Scanner(50))
    here.work()
    assert here.mosip.tokens.given == 2


def test_a_token_that_is_refused_is_replaced_at_once(here):
    here.add(L0)
    here.mosip.quirks.set(Quirk.DROP_TOKEN, 1)
    here.work()
    assert here.code(L0) == "code-1"
    assert here.mosip.tokens.given == 2


def test_a_token_that_is_always_refused_is_a_pause(here):
    here.add(L0)
    here.mosip.quirks.set(Quirk.DROP_TOKEN)
    here.work()
    assert here.tasks(L0)[0].code == "KER-ATH-401"
    assert here.tasks(L0)[0].state == "waiting"
    here.mosip.quirks.clear()
    here.work_for(minutes=1)
    assert here.code(L0) == "code-1"


@pytest.mark.parametrize("login", ["authmanager", "keycloak"])
def test_both_ways_to_log_in_work(tmp_path, served, clock, login):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, login=login) as here:
        here.add(L0)
        here.work()
        assert here.code(L0) == "code-1"


@pytest.mark.parametrize(("login", "code"), [("authmanager", "KER-ATH-003"), ("keycloak", "http-401")])
def test_a_wrong_secret_stops_everything_and_says_why(tmp_path, served, clock, login, code):
    fresh(served.mosip, clock)
    (tmp_path / "secret").write_text("wrong")
    (tmp_path / "secret").chmod(0o600)
    with office(tmp_path, served, clock, Profile.PMS, login=login, secret_file="secret") as here:
        here.add(L0)
        here.work_for(minutes=10, every_s=30)
        assert here.connector.pause.why is not None
        assert here.connector.pause.why.code == code
        assert here.tasks(L0)[0].attempts <= 12


def test_a_secret_that_others_may_read_is_not_used(tmp_path, served, clock):
    fresh(served.mosip, clock)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    with office(tmp_path, served, clock, Profile.PMS, secret_file="secret") as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-secret"
        assert "/v1/partnermanager/registereddevices" not in here.mosip.asked


def test_a_server_whose_certificate_is_not_believed_gets_nothing(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, ca=str(served.mosip.pki.folder / "root.pem")) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "bad-tls"
        assert here.mosip.tokens.given == 0


NOWHERE = "http://127.0.0.1:9"


def test_a_proxy_of_the_configuration_is_honoured(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, proxy=NOWHERE) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-connection"


def test_a_proxy_of_the_environment_is_honoured(tmp_path, served, clock, monkeypatch):
    fresh(served.mosip, clock)
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    with office(tmp_path, served, clock, Profile.PMS) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-connection"


# Crypto-only.


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


def test_a_device_that_another_profile_knew_is_told_of_within_ten_minutes(pms):
    pms.add(L0, device_code="of another register")
    pms.connector.plan(pms.clock.now - timedelta(minutes=9))
    with pms.store.unit() as unit:
        unit.put_mosip_task(replace(pms.tasks(L0)[0], state=TaskState.DROPPED, profile=Profile.MASTERDATA))
    pms.work()
    assert len(pms.tasks(L0)) == 1
    pms.work_for(minutes=2, every_s=20)
    assert pms.code(L0) == "code-1"


def test_who_was_never_blocked_is_off_the_hotlist_already(crypto):
    crypto.add(L0, state=State.REVOKED)
    crypto.work()
    crypto.mosip.register.hotlist.clear()
    crypto.change(L0, state=State.REGISTERED)
    crypto.work()
    assert crypto.told(L0)[-1][:2] == ("unblock", "done")


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
