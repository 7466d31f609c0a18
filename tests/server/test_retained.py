"""At every moment a reader who sees a ``timestamp`` finds all that it names; what is old goes, an hour later."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_broker.line import Token
from fleetward_server.releases.retained import AGAIN, GRACE, WINDOW, Next, Retained, readable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def a_set(number: int, *changed: int, bins: int = 40) -> dict[str, bytes]:
    """The set of this number: these bins are of this version, the others of version 1."""
    roles = {f"bin-{one:02x}": number if one in changed else 1 for one in range(bins)}
    names = ["1.root", *(f"{version}.{role}" for role, version in roles.items()), "1.targets", f"{number}.snapshot"]
    return {name: name.encode() for name in names} | {"timestamp": f"timestamp {number}".encode()}


class Broker:
    """Holds what was published; what a lost line had on its way may or may not have come."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.sets: dict[bytes, dict[str, bytes]] = {}
        self.tokens = count(1)
        self.log: list[str] = []

    def knows(self, files: dict[str, bytes]) -> dict[str, bytes]:
        self.sets[files["timestamp"]] = files
        return files

    def take(self, what: Next) -> Token:
        self.log.append(what.file if what.raw is not None else f"-{what.file}")
        if what.raw is None:
            self.held.pop(what.file, None)
        else:
            self.held[what.file] = what.raw
        if "timestamp" in self.held:
            named = self.sets[self.held["timestamp"]]
            assert {name: self.held.get(name) for name in named} == named
        return Token(next(self.tokens))


def settle(plan: Retained, broker: Broker, now: datetime = NOW, seal: str = "seal") -> list[str]:
    """Let everything that is due happen; return what was published."""
    broker.log.clear()
    plan.look(seal, now)
    while (what := plan.next(now)) is not None:
        token = broker.take(what)
        plan.sent(token, what)
        plan.delivered(token)
    plan.look(seal, now)
    return list(broker.log)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def plan(broker: Broker) -> Retained:
    made = Retained({})
    made.hold(broker.knows(a_set(1)))
    settle(made, broker)
    return made


def test_all_of_a_set_is_published_and_timestamp_last(broker):
    made = Retained({})
    made.hold(broker.knows(a_set(1)))
    assert settle(made, broker) == list(a_set(1))
    assert broker.held == a_set(1)
    assert made.done


def test_of_the_next_set_only_what_is_new_is_published(plan, broker):
    plan.hold(broker.knows(a_set(2, 7)))
    assert settle(plan, broker) == ["2.bin-07", "2.snapshot", "timestamp"]


def test_timestamp_waits_until_all_that_it_names_is_there(broker):
    made = Retained({})
    made.hold(a_set(1, bins=4))
    made.look("seal", NOW)
    away = []
    while (what := made.next(NOW)) is not None:
        away.append(Token(len(away)))
        made.sent(away[-1], what)
    assert len(away) == len(a_set(1, bins=4)) - 1
    for token in away[1:]:
        made.delivered(token)
    assert made.next(NOW) is None
    made.delivered(away[0])
    assert made.next(NOW) == Next("timestamp", b"timestamp 1")


def test_no_more_is_on_its_way_at_once_than_the_window():
    made = Retained({})
    made.hold(a_set(1))
    for number in range(WINDOW):
        what = made.next(NOW)
        assert what is not None
        made.sent(Token(number), what)
    assert made.next(NOW) is None
    made.delivered(Token(3))
    assert made.next(NOW) is not None


def test_what_the_line_did_not_take_is_next_again():
    made = Retained({})
    made.hold(a_set(1))
    what = made.next(NOW)
    assert what is not None
    made.not_sent(what)
    assert made.next(NOW) == what


def test_what_is_superseded_is_cleared_after_the_grace_and_not_before(plan, broker):
    plan.hold(broker.knows(a_set(2, 7)))
    settle(plan, broker)
    assert settle(plan, broker, NOW + GRACE - timedelta(seconds=1)) == []
    assert settle(plan, broker, NOW + GRACE) == ["-1.bin-07", "-1.snapshot"]
    assert broker.held == a_set(2, 7)
    assert set(plan.told) == set(a_set(2, 7))


def test_the_grace_begins_when_the_new_timestamp_is_there(plan, broker):
    plan.hold(broker.knows(a_set(2, 7)))
    plan.look("seal", NOW)
    assert plan.told["1.bin-07"] is None
    settle(plan, broker, NOW + timedelta(minutes=30))
    assert settle(plan, broker, NOW + GRACE) == []


def test_roots_are_never_cleared(plan, broker):
    later = {"2.root": b"2", **{name: raw for name, raw in a_set(2).items() if name != "1.root"}}
    plan.hold(broker.knows(later))
    settle(plan, broker)
    settle(plan, broker, NOW + 2 * GRACE)
    assert "1.root" in broker.held


def test_what_an_earlier_server_published_is_cleared_by_a_later_one(plan, broker):
    plan.hold(broker.knows(a_set(2, 7)))
    plan.look("seal", NOW)
    later = Retained(plan.told)
    later.hold(a_set(2, 7))
    settle(later, broker)
    assert settle(later, broker, NOW + GRACE) == ["-1.bin-07", "-1.snapshot"]


def test_a_new_line_publishes_all_again(plan, broker):
    plan.begin_again()
    assert settle(plan, broker) == list(a_set(1))


def test_a_new_seal_publishes_all_again(plan, broker):
    assert settle(plan, broker, seal="another") == list(a_set(1))
    assert settle(plan, broker, seal="another") == []


def test_each_day_all_is_published_again(plan, broker):
    assert settle(plan, broker, NOW + AGAIN - timedelta(seconds=1)) == []
    assert settle(plan, broker, NOW + AGAIN) == list(a_set(1))
    assert settle(plan, broker, NOW + AGAIN) == []


def test_what_was_written_down_is_read_again_and_nothing_else():
    told = {"1.bin-00": None, "1.root": NOW.isoformat(), "../x": None, "d/+": None}
    assert readable(told) == {"1.bin-00": None, "1.root": NOW}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["set", "lose", "deliver", "send", "later", "seal"]), st.integers(0, 39))))
def test_whatever_happens_a_timestamp_names_what_is_there(steps):
    """Sets come, lines are lost with what was on its way, deliveries are late: ``Broker.take`` looks each time."""
    broker, plan, now, number, seal = Broker(), Retained({}), NOW, 1, "0"
    plan.hold(broker.knows(a_set(1)))
    away: list[Token] = []
    for what, which in steps:
        plan.look(seal, now)
        if what == "set":
            number += 1
            plan.hold(broker.knows(a_set(number, *range(which))))
        elif what == "lose":
            plan.begin_again()
            away.clear()
        elif what == "deliver" and away:
            plan.delivered(away.pop(which % len(away)))
        elif what == "later":
            now += timedelta(minutes=which)
        elif what == "seal":
            seal = str(which)
        elif (due := plan.next(now)) is not None:
            away.append(broker.take(due))
            plan.sent(away[-1], due)
    plan.begin_again()
    settle(plan, broker, now, seal)
    assert plan.done
