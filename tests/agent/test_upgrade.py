"""An upgrade's whole way at the device, in virtual time."""

import pytest

from fleetward_agent.upgrade_effects import (
    Activate,
    CheckHealth,
    FetchTarget,
    Install,
    Needs,
    ReadRelease,
    RollBack,
    Settle,
)
from fleetward_schemas.upgrade import Phase
from tests.agent.upgrading import Upgrading, release
from tests.world import Provider

HAPPY = ["assigned", "downloading", "staged", "installing", "activating", "checking", "committed"]


@pytest.fixture
def stage(provider: Provider) -> Upgrading:
    return Upgrading(provider)


def test_what_is_released_and_assigned_is_installed_and_proves_well(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED, 60)
    stage.pass_s(5)

    assert stage.bench.runs["firmware"] == stage.committed() == 2
    assert [phase for phase, _, _ in stage.told] == HAPPY
    kinds = [type(one) for one in stage.bench.done if not isinstance(one, ReadRelease)]
    assert kinds == [FetchTarget, Install, Activate, CheckHealth, Settle]
    assert not stage.bench.asked(RollBack)


@pytest.mark.parametrize("needs", [Needs.RESTART, Needs.REBOOT])
def test_a_version_that_needs_a_new_start_is_checked_after_it(stage: Upgrading, needs: Needs) -> None:
    stage.bench.needs = needs
    stage.assign(release())
    stage.until(lambda: stage.restarts == 1)
    assert stage.firmware.phase is Phase.CHECKING
    assert not stage.bench.asked(CheckHealth)
    stage.reach(Phase.COMMITTED)

    assert stage.restarts == 1
    assert stage.committed() == 2
