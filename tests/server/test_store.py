"""One transaction keeps all of a batch or nothing, and reads its own changes. Source: S5, protocol section 3."""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.errors import Code, LocalMistake
from fleetward_schemas.identity import Certification, Purpose
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import DeviceId
from fleetward_server.changes import (
    AddCertificates,
    AddReport,
    BindFtm,
    CountRefusal,
    PutChallenge,
    PutCommand,
    PutDevice,
    PutWindow,
    RevokeCertificates,
    Seen,
    TakeCertificates,
)
from fleetward_server.state import CertificateState, Check, FtmRoot, Item, Model, Presence
from fleetward_server.store import Store, open_store
from tests.server.register import (
    FIRST,
    HOUR,
    NOW,
    both,
    challenge,
    command,
    device,
    half_done,
    identity,
    kept,
    made,
    report,
)

WINDOWS = st.builds(ReplayWindow, st.integers(0, 2**53 - 1), st.integers(0, 2**128 - 1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with made(tmp_path) as fresh:
        yield kept(fresh, device())


def test_a_device_comes_back_as_it_was_kept(store: Store) -> None:
    full = device(
        ftm_key="ftm",
        asking_key="asks",
        approved_key="may",
        enrolments=3,
        reissue=True,
        listed=True,
        digital_id="a.b.c",
        previous_digital_id="d.e.f",
        hello_digital_id="g.h.i",
        hello_id="hello",
        session="s",
        presence=Presence.ONLINE,
        presence_at=NOW,
        seen_at=NOW,
        agent_version="1.0",
        reason=Reason.CLONE,
        checklist=(Check(Item.IDENTITY, True), Check(Item.FTM, False, Reason.CLONE)),
        tags=("gate-2", "north"),
        device_code="code",
        device_info="info",
        retire_at=NOW,
        changed_at=NOW,
    )
    assert all(getattr(full, field.name) not in {None, ()} for field in fields(full))
    kept(store, full)
    assert store.device(FIRST) == full


def test_what_a_batch_raised_through_is_not_kept(store: Store) -> None:
    changes = (PutDevice(device(tags=("lost",))), AddReport(report(1)), CountRefusal("p", Code.STALE, NOW))
    with pytest.raises(ValueError, match="halfway"):
        half_done(store, *changes)
    assert store.device(FIRST) == device()
    assert store.reports() == ()
    assert store.refusals() == ()


def test_a_batch_after_one_that_failed_sees_what_was_committed(store: Store) -> None:
    with pytest.raises(ValueError, match="halfway"):
        half_done(store, PutDevice(device(tags=("lost",))), PutWindow("s", "t", ReplayWindow(9, 1), NOW))
    with store.unit() as unit:
        assert unit.device(FIRST) == device()
        assert unit.window("s", "t") == ReplayWindow()


def test_a_batch_sees_its_own_changes(store: Store) -> None:
    newcomer, window = device(2), ReplayWindow(5, 1)
    with store.unit() as unit:
        assert unit.device(newcomer.id) is None
        unit.apply([PutDevice(newcomer), PutWindow("s", "t", window, NOW), PutCommand(command()), BindFtm("f", FIRST)])
        unit.apply([PutChallenge(challenge()), AddCertificates(both("one"))])
        assert unit.device(newcomer.id) == newcomer
        assert unit.window("s", "t") == window
        assert unit.command(command().id) == command()
        assert unit.ftm_owner("f") == FIRST
        assert unit.challenge_of_hello(f"f-{FIRST}", "hello") == challenge()
        assert {c.pair for c in unit.chains(FIRST)} == {"one"}


def test_a_batch_sees_what_another_process_committed_before_it(store: Store) -> None:
    with store.unit() as unit:
        unit.device(FIRST)
    with open_store(store.path) as other:
        kept(other, device(state=State.REVOKED))
    with store.unit() as unit:
        assert unit.device(FIRST) == device(state=State.REVOKED)


@given(window=WINDOWS, later=WINDOWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_a_window_survives_being_kept(store: Store, window: ReplayWindow, later: ReplayWindow) -> None:
    for kept_window in (window, later):
        with store.unit() as unit:
            unit.apply([PutWindow("signer", "topic", kept_window, NOW)])
        with open_store(store.path) as other, other.unit() as unit:
            unit.prefetch(set(), {("signer", "topic")})
            assert unit.window("signer", "topic") == kept_window


def test_prefetch_reads_more_rows_than_one_statement_takes(store: Store) -> None:
    many = [device(number) for number in range(1, 951)]
    kept(store, *many)
    with open_store(store.path) as other, other.unit() as unit:
        unit.prefetch({one.id for one in many}, {("s", str(number)) for number in range(950)})
        assert [unit.device(one.id) for one in many] == many


def test_a_report_is_stored_once_per_device_and_id(store: Store) -> None:
    first = report(1)
    for again in (first, replace(first, body="{}")):
        with store.unit() as unit:
            unit.apply([AddReport(again), AddReport(replace(again, body="[]"))])
    assert store.reports() == (first,)


def test_the_same_report_id_of_two_devices_is_two_reports(store: Store) -> None:
    kept(store, device(2))
    with store.unit() as unit:
        unit.apply([AddReport(report(1)), AddReport(report(1, device_number=2))])
    assert len(store.reports()) == 2


def test_a_sighting_never_goes_back(store: Store) -> None:
    for at in (NOW + HOUR, NOW):
        with store.unit() as unit:
            unit.apply([Seen(FIRST, at), PutDevice(device(seen_at=NOW))])
    found = store.device(FIRST)
    assert found is not None
    assert found.seen_at == NOW + HOUR


def test_refusals_are_counted_per_principal_and_code(store: Store) -> None:
    for _ in range(2):
        with store.unit() as unit:
            unit.apply([CountRefusal("p", Code.STALE, NOW)] * 3 + [CountRefusal("p", Code.MALFORMED, NOW)])
    assert {(r.code, r.count) for r in store.refusals("p")} == {("stale", 6), ("malformed", 2)}
    assert store.counts().refusals == {"malformed": 2, "stale": 6}


def test_the_first_online_supersedes_every_other_pair(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([AddCertificates(both("old")), TakeCertificates(FIRST, "old"), AddCertificates(both("new"))])
        assert {c.pair for c in unit.chains(FIRST)} == {"old", "new"}
        unit.apply([TakeCertificates(FIRST, "new")])
        assert {(c.pair, c.state) for c in unit.chains(FIRST)} == {("new", CertificateState.CURRENT)}
    superseded = {c.pair for c in store.certificates(FIRST) if c.state is CertificateState.SUPERSEDED}
    assert superseded == {"old"}


def test_a_certificate_comes_back_as_it_was_kept(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([AddCertificates(both("one"))])
    with store.unit() as unit:
        assert unit.chains(FIRST) == store.certificates(FIRST) == both("one")


def test_chains_read_at_once_are_each_devices_own_and_as_the_batch_has_changed_them(store: Store) -> None:
    with store.unit() as unit:
        unit.apply([AddCertificates(both("one"))])
    with store.unit() as unit:
        unit.prefetch((), (), (FIRST, nobody := DeviceId("b" * 26)))
        assert (unit.chains(FIRST), unit.chains(nobody)) == (both("one"), ())
        unit.apply([RevokeCertificates(FIRST)])
        assert unit.chains(FIRST) == ()


def test_a_key_is_certified_once_in_the_fleet(store: Store) -> None:
    first = both("one")[0]
    with store.unit() as unit:
        unit.apply([AddCertificates((first,))])
    with store.unit() as unit:
        assert unit.taken_keys({first.key_thumbprint, "new"}) == {first.key_thumbprint}
    with pytest.raises(LocalMistake), store.unit() as unit:
        unit.apply([AddCertificates((replace(first, thumbprint="other", serial=7),))])


def test_an_ftm_key_stays_with_its_device(store: Store) -> None:
    kept(store, device(2))
    for _ in range(2):
        with store.unit() as unit:
            unit.apply([BindFtm("ftm", FIRST)])
    with pytest.raises(LocalMistake), store.unit() as unit:
        unit.apply([BindFtm("ftm", device(2).id)])
    with store.unit() as unit:
        assert unit.ftm_owner("ftm") == FIRST


def test_a_device_never_gets_a_second_ftm_key(store: Store) -> None:
    with pytest.raises(LocalMistake), store.unit() as unit:
        unit.apply([BindFtm("one", FIRST), BindFtm("two", FIRST)])
    with store.unit() as unit:
        assert unit.ftm_owner("one") is None


def test_a_row_of_an_unknown_device_is_our_own_mistake(store: Store) -> None:
    with pytest.raises(LocalMistake), store.unit() as unit:
        unit.apply([Seen(DeviceId("nobody"), NOW)])


def test_a_used_challenge_replaces_the_unused_one(store: Store) -> None:
    used = challenge(used_by=("a", "b"))
    with store.unit() as unit:
        unit.apply([PutChallenge(challenge()), PutChallenge(used)])
    with store.unit() as unit:
        assert unit.challenge_of_nonce(f"f-{FIRST}", "server nonce") == used
        assert unit.challenge_of_nonce("f-other", "server nonce") is None


def test_a_model_is_approved_until_it_is_revoked(store: Store) -> None:
    model = Model("acme", "Acme", "Slap-4", "Finger", "Slap", approved=True)
    for approved in (True, False):
        with store.unit() as unit:
            unit.put_model(replace(model, approved=approved))
            assert unit.model_approved(identity()) is approved
    with store.unit() as unit:
        assert not unit.model_approved(identity())
    assert store.models() == (replace(model, approved=False),)


@pytest.mark.parametrize("state", [State.REFUSED, State.REVOKED, State.RETIRED])
def test_silencing_a_device_moves_the_revocation_epoch(store: Store, state: State) -> None:
    before = store.epochs()
    kept(store, device(state=state))
    assert store.epochs()[0] == before[0]
    assert store.epochs()[1] > before[1]


def test_an_ordinary_change_moves_no_epoch(store: Store) -> None:
    before = store.epochs()
    kept(store, device(tags=("north",)))
    assert store.epochs() == before


def test_models_and_roots_move_the_trust_epoch(store: Store) -> None:
    before = store.epochs()
    with store.unit() as unit:
        unit.put_ftm_root(FtmRoot("t", "Chips", b"der", trusted=True))
        moved = unit.epochs()
    assert moved == store.epochs()
    assert moved[0] > before[0]


def test_an_epoch_that_was_rolled_back_never_comes_again(store: Store) -> None:
    moved = []
    for _ in range(2):
        with contextlib.suppress(ValueError), store.unit() as unit:
            unit.apply([TakeCertificates(FIRST, "x")])
            moved.append(unit.epochs())
            raise ValueError("halfway")
    assert moved[0] != moved[1]


@pytest.mark.parametrize("changes", [{"purpose": Purpose.AUTH}, {"certification": Certification.L0}])
def test_level_and_purpose_of_a_record_never_change(tmp_path, changes):
    with made(tmp_path) as store:
        kept(store, device(1, tags=("a",)))
        with pytest.raises(LocalMistake, match="would change"):
            kept(store, device(1, **changes))
        kept(store, device(1, tags=("b",)))
        assert store.device(FIRST).tags == ("b",)
        assert store.device(FIRST).purpose is Purpose.REGISTRATION


def test_a_strangers_claim_may_be_corrected_until_it_is_listed(tmp_path):
    claimed = device(1, state=State.PENDING, listed=False, purpose=Purpose.AUTH)
    with made(tmp_path) as store:
        kept(store, claimed)
        kept(store, replace(claimed, purpose=Purpose.REGISTRATION, listed=True))
        with pytest.raises(LocalMistake, match="would change"):
            kept(store, claimed)


def test_nobody_is_registered_for_authentication_below_l1(tmp_path):
    with made(tmp_path) as store:
        with pytest.raises(LocalMistake, match="Auth at L0"):
            kept(store, device(1, certification=Certification.L0, purpose=Purpose.AUTH))
        kept(store, device(2, certification=Certification.L1, purpose=Purpose.AUTH))
