"""An act on many means whom it meant when it began, and does each one's part once, whatever breaks. Source: S5."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleetward_schemas.enrol import State
from fleetward_server.audit import verify
from fleetward_server.changes import AddCertificates, TakeCertificates
from fleetward_server.mass import BATCH, MassOperator
from fleetward_server.mass_state import Action, MassWish, Outcome, Tally
from fleetward_server.operations import Operator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.store import Store
from tests.server.register import FIRST, NOW, device, kept, made
from tests.server.test_operator import CONFIG
from tests.server.test_revocation import listed, pair
from tests.server.test_revocation import store as provider  # noqa: F401 - a fixture

MANY = 2 * BATCH + 3
SECOND = timedelta(seconds=1)
ORDER = {"verb": "sync-time", "params": {}, "expires_in_s": 60}
COMMAND = MassWish(Action.COMMAND, ORDER, "model:Slap-4", "drift")
TAG = MassWish(Action.TAG, {"add": ["north"], "remove": ["old"]}, "model:Slap-4", "moved")


class Broken(Exception):  # noqa: N818 - says what happened
    """Somebody pulled the plug."""


@dataclass
class Clock:
    """The time, until it has been asked too often. left: how often; None: for ever."""

    left: int | None = None
    asked: int = 0

    def __call__(self) -> datetime:
        self.asked += 1
        if self.left is not None and self.asked > self.left:
            raise Broken
        return NOW


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield fresh


def operator(store: Store, clock: Callable[[], datetime] = lambda: NOW) -> MassOperator:
    return MassOperator(store.path.parent, "eve", clock)


def fleet(store: Store, number: int = MANY) -> None:
    kept(store, *(device(one) for one in range(1, number + 1)))


def begun(who: MassOperator, wish: MassWish) -> str:
    return who.begin_mass(wish, who.device_ids(who.selection(wish.filter))).id


def commands(store: Store) -> Counter[str]:
    return Counter(one.device_id for one in store.commands(limit=1000))


def test_the_local_operator_has_the_seam_of_masses(store: Store) -> None:
    seam: Operator = operator(store)
    assert seam.mass_acts(9) == ()


def test_every_device_gets_its_part_and_the_audit_says_by_whom_and_why(store: Store) -> None:
    fleet(store)
    with operator(store) as eve:
        act = begun(eve, COMMAND)
        heard: list[Tally] = []
        assert eve.continue_mass(act, heard.append) == Tally(done=MANY)
    assert [one.left for one in heard] == [BATCH + 3, 3, 0]
    assert set(commands(store).values()) == {1}
    assert len(commands(store)) == MANY
    said = [(link.entry.actor, link.entry.action, link.entry.reason) for link in store.history(act)]
    assert said == [("operator:eve", "mass-begun", "drift"), ("operator:eve", "mass-finished", "drift")]
    (own,) = store.history(FIRST)
    assert (own.entry.action, own.entry.reason) == ("command-sync-time", "drift")
    assert own.entry.detail.endswith(f" mass {act}")
    assert verify(store) == (MANY + 2, None)


def test_who_fits_later_is_not_meant(store: Store) -> None:
    fleet(store, 2)
    with operator(store) as eve:
        act = begun(eve, COMMAND)
        kept(store, device(9))
        assert eve.continue_mass(act) == Tally(done=2)
    assert device(9).id not in commands(store)


def test_a_break_anywhere_makes_nothing_happen_twice_or_never(tmp_path: Path) -> None:
    points = 0
    while True:
        folder = tmp_path / str(points)
        folder.mkdir()
        (folder / "fleetward.toml").write_text(CONFIG)
        with made(folder) as store:
            fleet(store, BATCH + 2)
            with operator(store) as eve:
                act = begun(eve, COMMAND)
            clock = Clock(points)
            try:
                with operator(store, clock) as eve:
                    eve.continue_mass(act)
            except Broken:
                with operator(store) as eve:
                    assert eve.continue_mass(act).done == BATCH + 2
                broke = True
            else:
                broke = False
            assert set(commands(store).values()) == {1}
            assert len(commands(store)) == BATCH + 2
            assert store.audit_length() == verify(store)[0] == BATCH + 4
        if not broke:
            break
        points += 1
    assert points > BATCH
    print(f"broken off at each of {points} moments")


def test_a_break_between_transactions_keeps_what_was_done(store: Store) -> None:
    fleet(store)

    def pull(tally: Tally) -> None:
        if tally.left == 3:
            raise KeyboardInterrupt

    with operator(store) as eve:
        act = begun(eve, TAG)
        with pytest.raises(KeyboardInterrupt):
            eve.continue_mass(act, pull)
        assert eve.mass_tally(act) == Tally(done=2 * BATCH, left=3)
        assert eve.mass_act(act).finished_at is None
        assert eve.continue_mass(act) == Tally(done=MANY)
        assert eve.mass_act(act).finished_at == NOW
    assert {len(store.history(device(number).id)) for number in range(1, MANY + 1)} == {1}


def test_two_who_go_on_with_one_act_share_it(store: Store) -> None:
    fleet(store)
    with operator(store) as eve, operator(store) as ann:
        act = begun(eve, COMMAND)
        ends: list[Tally] = []

        def join(tally: Tally) -> None:
            if tally.left == 3:
                ends.append(ann.continue_mass(act))

        ends.append(eve.continue_mass(act, join))
    assert ends == [Tally(done=MANY)] * 2
    assert len(commands(store)) == MANY == sum(commands(store).values())
    assert [link.entry.action for link in store.history(act)] == ["mass-begun", "mass-finished"]


def test_one_that_cannot_keeps_nobody_waiting(store: Store) -> None:
    fleet(store, 3)
    kept(store, device(2, state=State.PENDING))
    with operator(store) as eve:
        act = begun(eve, COMMAND)
        assert eve.continue_mass(act) == Tally(done=2, failed=1)
        (failed,) = eve.mass_targets(act, (Outcome.FAILED,))
    assert failed.device_id == device(2).id
    assert "takes commands once it is registered" in failed.detail
    assert device(2).id not in commands(store)


def test_one_that_is_so_already_is_left_alone(store: Store) -> None:
    fleet(store, 2)
    kept(store, device(2, tags=("north",)))
    with operator(store) as eve:
        assert eve.continue_mass(begun(eve, TAG)) == Tally(done=1, unchanged=1)
    assert store.history(device(2).id) == ()
    assert [one.tags for one in store.devices()] == [("north",), ("north",)]


def test_a_finished_act_is_not_done_again(store: Store) -> None:
    fleet(store, 1)
    with operator(store) as eve:
        act = begun(eve, COMMAND)
        eve.continue_mass(act)
        with pytest.raises(OperatorProblem, match="finished at") as problem:
            eve.continue_mass(act)
    assert problem.value.kind is Kind.CONFLICT
    assert commands(store) == {FIRST: 1}


def test_an_act_that_nobody_began_is_not_found(store: Store) -> None:
    with operator(store) as eve, pytest.raises(OperatorProblem) as problem:
        eve.continue_mass("nothing")
    assert problem.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    "wish",
    [
        MassWish(Action.TAG, {"add": ["No Tag"], "remove": []}, "", ""),
        MassWish(Action.COMMAND, ORDER | {"verb": "sync-tim"}, "", ""),
        MassWish(Action.COMMAND, ORDER | {"expires_in_s": 0}, "", ""),
        MassWish(Action.COMMAND, ORDER | {"params": {"a": "b"}}, "", ""),
    ],
)
def test_what_no_device_could_be_told_is_not_begun(store: Store, wish: MassWish) -> None:
    fleet(store, 1)
    with operator(store) as eve, pytest.raises(OperatorProblem) as problem:
        begun(eve, wish)
    assert problem.value.kind is Kind.INVALID
    assert store.mass_acts(9) == ()


def test_a_finished_acts_list_goes_in_its_time_and_an_unfinished_ones_stays(store: Store) -> None:
    fleet(store, 3)
    with operator(store) as eve:
        done, broken = begun(eve, TAG), begun(eve, COMMAND)
        eve.continue_mass(done)
        assert [store.forget_mass_targets(NOW + n * SECOND, 2) for n in (0, 1, 1, 1)] == [0, 2, 1, 0]
        assert eve.mass_tally(done) == Tally()
        assert eve.mass_act(done).finished_at == NOW
        assert eve.continue_mass(broken) == Tally(done=3)


DECISIONS = [
    (Action.QUARANTINE, State.REGISTERED, State.QUARANTINED, "quarantined"),
    (Action.RELEASE, State.QUARANTINED, State.REGISTERED, "released"),
    (Action.REINSTATE, State.REVOKED, State.APPROVED, "reinstated"),
]


@pytest.mark.parametrize(("action", "before", "after", "word"), DECISIONS)
def test_a_decision_about_many_is_the_one_about_each(
    store: Store, action: Action, before: State, after: State, word: str
) -> None:
    kept(store, device(1, state=before), device(2, state=before), device(3, state=State.PENDING))
    with operator(store) as eve:
        act = begun(eve, MassWish(action, {}, "model:Slap-4", "recall"))
        assert eve.continue_mass(act) == Tally(done=2, failed=1)
    (link,) = store.history(FIRST)
    assert (link.entry.action, link.entry.reason, link.entry.detail) == (word, "recall", f"mass {act}")
    assert {one.state for one in store.devices()} == {after, State.PENDING}
    assert store.history(device(3).id) == ()


def certified(store: Store, number: int) -> None:
    kept(store, device(number))
    own = tuple(replace(one, device_id=device(number).id) for one in pair(str(number), 10 * number))
    with store.unit() as unit:
        unit.apply([AddCertificates(own), TakeCertificates(device(number).id, str(number))])


def test_the_broker_hears_of_whom_a_broken_revocation_put_out(provider: Store) -> None:  # noqa: F811
    for number in range(1, BATCH + 2):
        certified(provider, number)

    def pull(tally: Tally) -> None:
        if tally.left == 1:
            raise KeyboardInterrupt

    with MassOperator(provider.path.parent, "eve") as eve:
        act = begun(eve, MassWish(Action.REVOKE, {}, "model:Slap-4", "recalled"))
        with pytest.raises(KeyboardInterrupt):
            eve.continue_mass(act, pull)
        assert len(listed(provider)) == 2 * BATCH
        assert eve.continue_mass(act) == Tally(done=BATCH + 1)
    assert len(listed(provider)) == 2 * BATCH + 2
    assert {one.state for one in provider.devices()} == {State.REVOKED}


def test_a_revocation_that_the_broker_did_not_hear_is_not_finished(provider: Store) -> None:  # noqa: F811
    certified(provider, 1)
    key = provider.path.parent / "pki" / "device-ca.key.pem"
    key.rename(key.with_suffix(".away"))
    with MassOperator(provider.path.parent, "eve") as eve:
        act = begun(eve, MassWish(Action.REVOKE, {}, "model:Slap-4", "recalled"))
        with pytest.raises(OperatorProblem, match=f"mass resume {act}") as problem:
            eve.continue_mass(act)
        assert problem.value.kind is Kind.FAILED
        assert eve.mass_act(act).finished_at is None
        key.with_suffix(".away").rename(key)
        assert eve.continue_mass(act) == Tally(done=1)
    assert set(listed(provider)) == {10, 11}
