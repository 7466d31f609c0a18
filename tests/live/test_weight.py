"""What an idle agent weighs, started as its unit starts it: under the bar, and both figures told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.bench_agent import BAR_MB, BY_HAND, MB_PER_MIB, service, weight
from tests.live.house import House

pytestmark = pytest.mark.live


def test_an_idle_agent_stays_under_its_bar(tmp_path: Path, figure: Callable[[str], None]) -> None:
    words, settings = service()
    with House(tmp_path) as house:
        as_service, _ = weight(house, words, settings)
        by_hand, _ = weight(house, BY_HAND, {})
    figure(f"idle agent, MB resident: {as_service * MB_PER_MIB:.1f} as its service, {by_hand * MB_PER_MIB:.1f} by hand")
    # Nothing else is measured here: an agent that is not there weighs nothing.
    assert 20 < as_service * MB_PER_MIB < BAR_MB
