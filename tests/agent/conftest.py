"""Stages on which devices are put; the provider's keys are made once."""

from collections.abc import Callable

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_schemas.identity import Certification
from tests.world import Provider, Stage


@pytest.fixture(scope="session")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="session")
def other_provider() -> Provider:
    return Provider()


@pytest.fixture
def stage(provider: Provider) -> Stage:
    return Stage(provider)


@pytest.fixture(params=list(Certification))
def any_level(provider: Provider, request: pytest.FixtureRequest) -> Stage:
    return Stage(provider, request.param)


@pytest.fixture
def working(stage: Stage) -> Stage:
    """A device that has enrolled and reports."""
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.turn()
    stage.turn()
    return stage


@pytest.fixture
def factory(provider: Provider) -> Callable[[], Stage]:
    return lambda: Stage(provider)
