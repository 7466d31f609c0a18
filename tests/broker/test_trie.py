"""Matching by level agrees with the definition, for every topic and filter."""

from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.embedded.trie import Subscriptions, Topics

LEVEL = st.sampled_from(["a", "b", ""])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTER = st.tuples(
    st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=4), st.sampled_from(["", "/#"])
).map(lambda parts: "/".join(parts[0]) + parts[1])


def matches(topic: str, wanted: str) -> bool:
    """MQTT 3.1.1 section 4.7, said slowly."""
    levels, wishes = topic.split("/"), wanted.split("/")
    if wishes[-1] == "#":
        wishes = wishes[:-1]
        levels = levels[: len(wishes)] if len(levels) >= len(wishes) else []
        if not levels:
            return False
    return len(levels) == len(wishes) and all(w in ("+", level) for level, w in zip(levels, wishes, strict=True))


@given(TOPIC, st.lists(st.tuples(FILTER, st.integers(0, 1)), max_size=6))
def test_a_topic_finds_exactly_its_takers_at_their_highest_qos(topic, filters):
    tree, expected = Subscriptions(), {}
    for number, (wanted, qos) in enumerate(filters):
        tree.add(wanted, f"{number % 2}", qos)
    last = {(wanted, f"{number % 2}"): qos for number, (wanted, qos) in enumerate(filters)}
    for (wanted, taker), qos in last.items():
        if matches(topic, wanted):
            expected[taker] = max(qos, expected.get(taker, 0))
    assert tree.match(topic) == expected


@given(FILTER, st.sets(TOPIC, max_size=6))
def test_a_filter_finds_exactly_its_topics(wanted, topics):
    tree = Topics()
    for topic in topics:
        tree.add(topic)
    assert sorted(tree.match(wanted)) == sorted(topic for topic in topics if matches(topic, wanted))


@given(st.lists(FILTER, max_size=6), st.lists(FILTER, max_size=6))
def test_what_is_removed_leaves_nothing_behind(added, removed):
    tree = Subscriptions()
    for wanted in added:
        tree.add(wanted, "taker", 1)
    for wanted in [*removed, *added]:
        tree.remove(wanted, "taker")
    assert not tree._root.below


@given(st.sets(TOPIC, max_size=6))
def test_forgotten_topics_leave_nothing_behind(topics):
    tree = Topics()
    for topic in topics:
        tree.add(topic)
    for topic in topics:
        tree.remove(topic)
    assert not tree._root.below
