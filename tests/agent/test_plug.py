"""What is there counts, not what was told: looks, their moments, and the table of a plug's stands."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_agent.plug import (
    ANYWAY_US,
    FIRST_WAIT_US,
    MOST_SETTLE_US,
    MOST_WAIT_US,
    NEXT,
    SETTLE_US,
    Move,
    Patience,
    Plugged,
    Settle,
    Stand,
    advance,
    look,
)
from fleetward_schemas.errors import LocalMistake

BUSES = st.frozensets(st.builds(Plugged, st.sampled_from(["1-1", "1-2", "1-3"]), st.sampled_from([(), (("A", "1"),)])))


def thing(port: str = "1-1", **properties: str) -> Plugged:
    return Plugged(port, tuple(sorted(properties.items())))


@given(BUSES, BUSES)
def test_a_look_leads_from_what_was_to_what_is(before: frozenset[Plugged], now: frozenset[Plugged]) -> None:
    arrived, gone = look(before, now)

    assert (before - gone) | arrived == now
    assert not arrived & before
    assert gone <= before


def test_two_looks_at_the_same_are_nothing() -> None:
    bus = frozenset({thing("1-1"), thing("1-2")})

    assert look(bus, bus) == (frozenset(), frozenset())


def test_another_thing_on_the_same_port_is_gone_and_arrived() -> None:
    old, new = thing(ID_SERIAL_SHORT="A"), thing(ID_SERIAL_SHORT="B")

    assert look(frozenset({old}), frozenset({new})) == ({new}, {old})


def test_the_same_thing_with_another_number_was_plugged_anew() -> None:
    old, new = thing(DEVNUM="007"), thing(DEVNUM="008")

    assert look(frozenset({old}), frozenset({new})) == ({new}, {old})


def test_a_new_host_looks_at_once() -> None:
    assert Settle().due_us == 0


def test_an_event_is_looked_at_when_the_bus_has_settled() -> None:
    assert Settle().looked(0).stirred(1000).due_us == 1000 + SETTLE_US


def test_two_hundred_events_at_once_are_one_look() -> None:
    settle = Settle().looked(0)
    for event in range(200):
        settle = settle.stirred(event * 1000)

    assert settle.due_us == 199 * 1000 + SETTLE_US


def test_a_bus_that_is_never_quiet_is_looked_at_all_the_same() -> None:
    settle = Settle().looked(0)
    for now_us in range(0, 10 * MOST_SETTLE_US, SETTLE_US // 2):
        settle = settle.stirred(now_us)

    assert settle.due_us == MOST_SETTLE_US


def test_a_lost_event_is_made_good_within_a_minute() -> None:
    assert Settle().stirred(5).looked(10) == Settle(None, 10 + ANYWAY_US)


def test_patience_doubles_up_to_a_minute() -> None:
    patience, waits = Patience(), []
    for _ in range(20):
        patience = patience.after("no", 0)
        waits.append(patience.due_us)

    assert waits[:4] == [FIRST_WAIT_US, 2 * FIRST_WAIT_US, 4 * FIRST_WAIT_US, 8 * FIRST_WAIT_US]
    assert set(waits[4:]) == {MOST_WAIT_US}


@pytest.mark.parametrize(("stand", "move"), list(itertools.product(Stand, Move)))
def test_every_move_is_in_the_table_or_a_mistake(stand: Stand, move: Move) -> None:
    if move in NEXT[stand]:
        assert advance(stand, move) is NEXT[stand][move]
    else:
        with pytest.raises(LocalMistake, match=f"{move} while {stand}"):
            advance(stand, move)


def test_what_is_attached_leaves_before_it_is_gone() -> None:
    for stand in (Stand.ATTACHED, Stand.UNREADY):
        assert NEXT[stand][Move.PULLED] is Stand.LEAVING


def test_a_thing_without_ids_can_be_spoken_of() -> None:
    assert (thing().ids, thing(ID_VENDOR_ID="1d6b", ID_MODEL_ID="0b10").ids) == ("?:?", "1d6b:0b10")
