"""The gate: each principal's few topics, and for every other topic a no."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.gate import Action, is_filter, may
from tests.broker.sessions import DEVICE, OTHER, principal, topic

D, F, S, V = DEVICE, f"f-{DEVICE}", "server", "view-1"
UP = topic("telemetry", way="up")
ALL = (Action.PUBLISH, Action.RETAIN, Action.SUBSCRIBE, Action.RECEIVE)


@pytest.mark.parametrize(
    ("name", "action", "where"),
    [
        (D, Action.PUBLISH, UP),
        (D, Action.SUBSCRIBE, f"fw/v1/d/{D}/down/#"),
        (D, Action.SUBSCRIBE, "fw/v1/fleet/release/+"),
        (D, Action.RECEIVE, topic("command")),
        (D, Action.RECEIVE, "fw/v1/fleet/beacon"),
        (F, Action.PUBLISH, topic("hello", F, "up")),
        (F, Action.SUBSCRIBE, f"fw/v1/d/{F}/down/+"),
        (S, Action.PUBLISH, topic("command")),
        (S, Action.RETAIN, "fw/v1/fleet/release"),
        (S, Action.SUBSCRIBE, "fw/v1/d/+/up/#"),
        (S, Action.RECEIVE, UP),
        (V, Action.SUBSCRIBE, "fw/v1/view/#"),
        (V, Action.RECEIVE, "fw/v1/view/summary"),
    ],
)
def test_what_a_principal_needs_is_allowed(name, action, where):
    assert may(principal(name), action, where)


@pytest.mark.parametrize(
    ("name", "action", "where"),
    [
        (D, Action.RETAIN, UP),
        (D, Action.PUBLISH, topic("telemetry", OTHER, "up")),
        (D, Action.PUBLISH, topic("telemetry", F, "up")),
        (D, Action.PUBLISH, topic("command")),
        (D, Action.PUBLISH, f"fw/v1/d/{D}/up/a/b"),
        (D, Action.SUBSCRIBE, f"fw/v1/d/{OTHER}/down/#"),
        (D, Action.SUBSCRIBE, "fw/v1/d/+/down/command"),
        (D, Action.SUBSCRIBE, f"fw/v1/d/{D}/#"),
        (D, Action.SUBSCRIBE, UP),
        (F, Action.SUBSCRIBE, f"fw/v1/d/{D}/down/#"),
        (S, Action.PUBLISH, "fw/v2/fleet/beacon"),
        (S, Action.SUBSCRIBE, "#"),
        (V, Action.PUBLISH, "fw/v1/view/summary"),
        (V, Action.SUBSCRIBE, "fw/v1/#"),
    ],
)
def test_what_a_principal_does_not_need_is_denied(name, action, where):
    assert not may(principal(name), action, where)


@pytest.mark.parametrize("name", [D, F, S, V])
@pytest.mark.parametrize("where", ["", "#", "+/#", "$SYS/#", "$share/g/fw/v1/#", "fw/v1/\0", "fw/v1/" + "a" * 256])
def test_nobody_gets_the_whole_the_broker_or_a_shared_group(name, where):
    assert not any(may(principal(name), action, where) for action in ALL)


LEVELS = st.lists(st.sampled_from(["fw", "v1", "d", D, OTHER, F, "up", "down", "fleet", "view", "+", "#", "x", ""]))


@given(LEVELS.map("/".join), st.sampled_from([D, F]))
def test_a_device_never_writes_outside_its_own_up(where, name):
    allowed = any(may(principal(name), action, where) for action in (Action.PUBLISH, Action.RETAIN))
    assert not allowed or where.startswith(f"fw/v1/d/{name}/up/")


@given(LEVELS.map("/".join), st.sampled_from([D, F]))
def test_a_device_never_reads_outside_its_own_down_and_the_fleet(where, name):
    allowed = any(may(principal(name), action, where) for action in (Action.SUBSCRIBE, Action.RECEIVE))
    assert not allowed or where.startswith((f"fw/v1/d/{name}/down/", "fw/v1/fleet/"))


@pytest.mark.parametrize(
    ("text", "answer"), [("a/#", True), ("+/a", True), ("a/#/b", False), ("a#", False), ("a+", False)]
)
def test_wildcards_stand_alone_and_the_last_one_last(text, answer):
    assert is_filter(text) is answer
