"""What a device may be told to run: released, for its model, above what it runs; nothing else can be said.

Source: S7, C8; wire, section "Upgrades" 5.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_schemas.enrol import State
from fleetward_schemas.upgrade import MAX_RELEASES, Phase
from fleetward_server.assigning import UpgradeWish, Window, check, choose, planned, read_wish
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases.shelf import Target
from fleetward_server.upgrade_state import Assignment, Committed, Upgrade
from tests.server.assigned import assignment, wanted
from tests.server.provider import DEVICE_ID, NOW, device

HERE = device(state=State.REGISTERED)
NIGHT: Window = (NOW + timedelta(hours=1), NOW + timedelta(hours=5))


def target(counter: int = 7, **changes: object) -> Target:
    one = wanted(counter)
    row = Target(one.target, one.name, counter, one.version, ("Acme/Slap-4",), one.sha256, one.length, one.url)
    return replace(row, **changes)  # type: ignore[arg-type]


def got(phase: Phase = Phase.COMMITTED, counter: int | None = 6) -> Upgrade:
    held = None if counter is None else Committed(counter, f"1.{counter}", wanted(counter).sha256, NOW)
    return Upgrade(DEVICE_ID, "firmware", phase, None, 1, NOW, 1, "id", held)


def test_what_is_for_its_model_and_higher_is_assigned() -> None:
    assert planned(HERE, target(), None, got(), None) == ((wanted(),), None)
    assert planned(HERE, target(), None, None, NIGHT) == ((wanted(),), NIGHT)


def test_a_lower_counter_is_refused_and_both_are_named() -> None:
    with pytest.raises(OperatorProblem) as refused:
        planned(HERE, target(5), None, got(), None)
    assert refused.value.kind is Kind.CONFLICT
    assert "1.5 has counter 5" in refused.value.message
    assert "runs 1.6, counter 6, and never goes back" in refused.value.message


def test_the_counter_that_it_runs_with_other_bytes_is_refused() -> None:
    with pytest.raises(OperatorProblem, match="never goes back"):
        planned(HERE, target(6, sha256="x" * 42 + "A"), None, got(), None)


def test_just_what_it_runs_is_no_change() -> None:
    assert planned(HERE, target(6), None, got(), None) is None


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.PENDING, Kind.HELD),
        (State.APPROVED, Kind.HELD),
        (State.QUARANTINED, Kind.CONFLICT),
        (State.REVOKED, Kind.CONFLICT),
        (State.RETIRED, Kind.CONFLICT),
        (State.REFUSED, Kind.CONFLICT),
    ],
)
def test_a_device_that_is_not_registered_is_told_nothing(state: State, kind: Kind) -> None:
    with pytest.raises(OperatorProblem) as refused:
        planned(device(state=state), target(), None, None, None)
    assert refused.value.kind is kind


def test_the_highest_for_the_model_is_chosen() -> None:
    every = [target(7), target(9, models=("Acme/Iris-1",)), target(8, models=None), target(6)]
    assert choose(HERE, every).counter == 8


def test_one_for_another_model_is_refused_and_named() -> None:
    with pytest.raises(OperatorProblem, match=r"is a Acme/Slap-4: not one of .*1\.7\.bin \(for Acme/Iris-1\)"):
        choose(HERE, [target(models=("Acme/Iris-1",))])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": ""}, "nothing serves its bytes"),
        ({"url": "http://plain.example/x"}, "url"),
        ({"length": 2**41}, "length"),
    ],
)
def test_what_a_device_could_not_take_is_not_said(changes: dict[str, object], said: str) -> None:
    with pytest.raises(OperatorProblem, match=said):
        planned(HERE, target(**changes), None, None, None)


def counts(*each: object, window: Window | None = None) -> Assignment:
    return assignment(DEVICE_ID, NOW, *each, window=window)  # type: ignore[arg-type]


def test_what_else_it_shall_run_stays_with_its_window() -> None:
    agent = wanted(3, name="agent")
    plan = planned(HERE, target(), counts(agent, wanted(6), window=NIGHT), got(), None)
    assert plan == ((agent, wanted()), NIGHT)


def test_alone_it_takes_no_window_over() -> None:
    assert planned(HERE, target(), counts(wanted(6), window=NIGHT), got(), None) == ((wanted(),), None)


@pytest.mark.parametrize(
    ("phase", "window", "changed"),
    [(Phase.FAILED, None, False), (Phase.REFUSED, None, True), (Phase.FAILED, NIGHT, True)],
)
def test_the_same_again_is_said_again_only_where_it_was_refused_or_the_window_is_another(
    phase: Phase, window: Window | None, changed: bool
) -> None:
    plan = planned(HERE, target(), counts(wanted()), got(phase, None), window)
    assert (plan is not None) is changed


def test_there_is_an_end_to_what_one_assignment_names() -> None:
    many = [wanted(1, name=f"part-{number}") for number in range(MAX_RELEASES)]
    with pytest.raises(OperatorProblem, match="8 at most"):
        planned(HERE, target(), counts(*many), None, None)
    assert planned(HERE, target(), counts(*many[1:]), None, None) is not None


def test_a_wish_is_read_as_it_was_written() -> None:
    for wish in (UpgradeWish(("a", "b"), NIGHT), UpgradeWish(("a",))):
        assert read_wish(wish.params()) == wish


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (UpgradeWish(()), "no target"),
        (UpgradeWish(("a",), (NIGHT[1], NIGHT[0])), "must be after"),
        (UpgradeWish(("a",), (NOW - timedelta(hours=2), NOW)), "is past"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: UpgradeWish, said: str) -> None:
    check(UpgradeWish(("a",), NIGHT), NOW)
    with pytest.raises(OperatorProblem, match=said):
        check(wish, NOW)
