"""Fifty devices rotate while ten are away and the server is killed twice; a thousand do in ``make bench``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.house import House
from tests.live.rotating import Rotating

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_nobody_is_locked_out(tmp_path: Path, figure: Callable[[str], None]) -> None:
    with House(tmp_path, telemetry_s=5) as house:
        rotating = Rotating(house, 50)
        figures = rotating.run(180)
        rotating.close()
    figure(f"{figures}")
    assert figures.locked_out == []
    assert max(figures.out) <= 60
