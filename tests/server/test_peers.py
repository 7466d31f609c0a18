"""Workers whose clocks disagree: the one outside what most hold true is silent, and without a majority everybody is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_server.peers import Reading, outvoted, trouble

TRUE = 10**15


def reading(worker: str, off_ms: int, radius_ms: int = 100) -> Reading:
    middle = TRUE + off_ms * 1000
    return Reading(worker, middle - radius_ms * 1000, middle + radius_ms * 1000)


@pytest.mark.parametrize(
    ("offs_ms", "out"),
    [
        ((0,), ""),
        ((0, 200), ""),
        ((0, 201), "ab"),
        ((0, 50, 5000), "c"),
        ((5000, 0, 50), "a"),
        ((0, 200, 400), ""),
        ((0, 1000, 2000), "abc"),
        ((0, 0, 1000, 1000), "abcd"),
        ((0, 0, 0, -3_600_000), "d"),
    ],
)
def test_who_stands_outside_the_majority_may_not_answer(offs_ms: tuple[int, ...], out: str) -> None:
    readings = [reading(name, off) for name, off in zip("abcd", offs_ms, strict=False)]

    assert outvoted(readings) == frozenset(out)
    assert [bool(trouble(one.worker, readings)) for one in readings] == [one.worker in out for one in readings]


def test_it_says_with_how_many_it_disagrees() -> None:
    readings = [reading("a", 0), reading("b", 10), reading("c", 9000)]

    assert "disagrees with 2 of 3" in trouble("c", readings)
    assert "2 workers disagree" in trouble("a", (readings[0], readings[2]))


@given(
    st.lists(st.tuples(st.integers(-100, 100), st.integers(100, 5000)), min_size=1, max_size=9),
    st.lists(st.integers(-6000, 6000), max_size=8),
)
def test_a_truthful_majority_is_never_silenced(honest: list[tuple[int, int]], lies: list[int]) -> None:
    readings = [reading(f"h{n}", off, radius) for n, (off, radius) in enumerate(honest)]
    readings += [reading(f"l{n}", off) for n, off in enumerate(lies[: len(honest) - 1])]

    assert not [name for name in outvoted(readings) if name.startswith("h")]
