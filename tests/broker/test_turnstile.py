"""No second sees more new connections than it may, and a storm is told in one line a second."""

from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.embedded.turnstile import Turnstile


@given(st.integers(1, 20), st.lists(st.floats(0, 0.3), max_size=200))
def test_no_second_sees_more_than_it_may(per_s: int, gaps: list[float]) -> None:
    turnstile, now, let = Turnstile(per_s), 0.0, []
    for gap in gaps:
        now += gap
        if turnstile.lets_through(now):
            let.append(now)
    for first in let:
        assert sum(first <= one < first + 1.0 for one in let) <= per_s


def test_who_comes_slowly_is_never_sent_away() -> None:
    turnstile = Turnstile(5)
    assert all(turnstile.lets_through(now * 0.21) for now in range(100))


def test_a_second_later_there_is_room_again() -> None:
    turnstile = Turnstile(1)
    assert [turnstile.lets_through(now) for now in (0.0, 0.9, 1.0, 1.5, 2.0)] == [True, False, True, False, True]


def test_the_turned_away_are_told_once_a_second() -> None:
    turnstile = Turnstile(1)
    for _ in range(4):
        turnstile.lets_through(10.0)
    assert [turnstile.to_tell(now) for now in (10.0, 10.5, 11.5)] == [3, 0, 0]
