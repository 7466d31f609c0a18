"""Topics by level: which subscribers a topic has, and which retained topics a filter has, without asking each one.

Rule: MQTT 3.1.1 section 4.7. Topics that begin with ``$`` never come here: the gate refuses them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    below: dict[str, "_Node"] = field(default_factory=dict)
    takers: dict[str, int] = field(default_factory=dict)
    topic: str | None = None

    @property
    def is_bare(self) -> bool:
        return not self.below and not self.takers and self.topic is None


class Subscriptions:
    """Filters with their takers: client id -> QoS."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, wanted: str, taker: str, qos: int) -> None:
        """Let ``taker`` have what ``wanted`` matches, at most at ``qos``."""
        _dig(self._root, wanted).takers[taker] = qos

    def remove(self, wanted: str, taker: str) -> None:
        """Undo ``add``; unknown ones are nothing to undo."""
        path = _path(self._root, wanted)
        if path is not None:
            path[-1][1].takers.pop(taker, None)
            _prune(path)

    def match(self, topic: str) -> dict[str, int]:
        """Return the takers of ``topic``, each once, with the highest QoS of its filters."""
        found: dict[str, int] = {}
        nodes = [self._root]
        for level in topic.split("/"):
            following = []
            for node in nodes:
                _collect(node.below.get("#"), found)
                following += [below for name in (level, "+") if (below := node.below.get(name)) is not None]
            nodes = following
        for node in nodes:
            _collect(node, found)
            # "a/#" matches "a" as well: section 4.7.1.2.
            _collect(node.below.get("#"), found)
        return found


class Topics:
    """Topic names, found by filter."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, topic: str) -> None:
        """Know ``topic``."""
        _dig(self._root, topic).topic = topic

    def remove(self, topic: str) -> None:
        """Forget ``topic``."""
        path = _path(self._root, topic)
        if path is not None:
            path[-1][1].topic = None
            _prune(path)

    def match(self, wanted: str) -> Iterator[str]:
        """Yield every known topic that the filter ``wanted`` matches."""
        nodes = [self._root]
        for level in wanted.split("/"):
            if level == "#":
                yield from (topic for node in nodes for topic in _all(node))
                return
            nodes = [below for node in nodes for below in _below(node, level)]
        yield from (node.topic for node in nodes if node.topic is not None)


def _dig(root: _Node, text: str) -> _Node:
    node = root
    for level in text.split("/"):
        node = node.below.setdefault(level, _Node())
    return node


def _path(root: _Node, text: str) -> list[tuple[str, _Node]] | None:
    """Return the nodes of ``text`` from the root on, each with the level that leads to it."""
    path = [("", root)]
    for level in text.split("/"):
        below = path[-1][1].below.get(level)
        if below is None:
            return None
        path.append((level, below))
    return path


def _prune(path: list[tuple[str, _Node]]) -> None:
    for above, (level, node) in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        if not node.is_bare:
            return
        del above[1].below[level]


def _collect(node: _Node | None, found: dict[str, int]) -> None:
    if node is not None:
        for taker, qos in node.takers.items():
            found[taker] = max(qos, found.get(taker, 0))


def _below(node: _Node, level: str) -> list[_Node]:
    if level == "+":
        return list(node.below.values())
    below = node.below.get(level)
    return [] if below is None else [below]


def _all(node: _Node) -> Iterator[str]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.topic is not None:
            yield node.topic
        waiting += node.below.values()
