"""Every kind has somebody who takes it, and nobody takes what no kind is."""

from collections.abc import Iterable, Mapping

from fleetward_agent import desk as agent_desk
from fleetward_schemas.messages import KINDS
from fleetward_schemas.topics import Direction
from fleetward_server import desk as server_desk

TO_SERVER = {Direction.UP}
TO_DEVICE = {Direction.DOWN, Direction.FLEET}


def differences(
    kinds: Iterable[tuple[Direction, str]], handlers: Mapping[str, object], directions: set[Direction]
) -> tuple[set[str], set[str]]:
    """Return (kinds without a handler, handlers without a kind) for the end that ``directions`` lead to."""
    wanted = {name for direction, name in kinds if direction in directions}
    return wanted - handlers.keys(), handlers.keys() - wanted


def test_the_server_has_a_handler_for_each_kind_that_goes_up():
    assert differences(KINDS, server_desk.HANDLERS, TO_SERVER) == (set(), set())


def test_the_agent_has_a_handler_for_each_kind_that_comes_down():
    assert differences(KINDS, agent_desk.HANDLERS, TO_DEVICE) == (set(), set())


def test_a_kind_without_a_handler_is_found():
    handlers = {name: print for direction, name in KINDS if direction is Direction.UP and name != "alert"}
    assert differences(KINDS, handlers, TO_SERVER) == ({"alert"}, set())


def test_a_handler_without_a_kind_is_found():
    assert differences([(Direction.UP, "time")], {"time": print, "capture": print}, TO_SERVER) == (set(), {"capture"})
