"""The worker's own line: what arrives before it stands waits until it does, and one that is lost is opened again."""

from pathlib import Path

import pytest

from fleetward_broker.line import Arrived, DialMaker, LineId
from fleetward_server.broker_line import RETRY_MOST_S, BrokerLine
from fleetward_server.config import load
from tests.server.test_operator import CONFIG
from tests.world_line import FakeClock, FakeLink


class PatientLink(FakeLink):
    """Remembers how long each line was to wait."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.waits_s: list[float] = []

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        self.waits_s.append(after_s)
        return super().open(dial, after_s=after_s)


@pytest.fixture
def link() -> PatientLink:
    return PatientLink()


@pytest.fixture
def line(tmp_path: Path, link: PatientLink) -> BrokerLine:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    made = BrokerLine(load(tmp_path), 8883, link)
    made.open()
    return made


def arrived(line: LineId | None, number: int) -> Arrived:
    assert line is not None
    return Arrived(line, f"fw/v1/d/x/up/{number}", b"", 1, False, number)


def test_what_a_kept_session_delivers_early_waits_and_comes_first(line: BrokerLine) -> None:
    early, late = arrived(line.id, 1), arrived(line.id, 2)
    assert line.answerable([early]) == []
    line.came_up()
    assert line.answerable([late]) == [early, late]
    assert line.answerable([late]) == [late]


def test_what_came_on_a_line_that_was_lost_is_let_go(line: BrokerLine) -> None:
    line.answerable([arrived(line.id, 1)])
    line.lost()
    line.open_again()
    line.came_up()
    again = arrived(line.id, 1)
    assert line.answerable([again]) == [again]


def test_the_oftener_a_line_was_lost_the_longer_it_may_wait_and_one_that_stood_begins_anew(
    line: BrokerLine, link: PatientLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda most: most - 1)
    for _ in range(6):
        line.lost()
        line.open_again()
    line.came_up()
    line.lost()
    line.open_again()
    assert [round(wait_s, 1) for wait_s in link.waits_s] == [
        0.0,
        0.4,
        0.8,
        1.6,
        RETRY_MOST_S,
        RETRY_MOST_S,
        RETRY_MOST_S,
        0.4,
    ]
