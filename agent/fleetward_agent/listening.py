"""What a line listens to beside its own subscriptions: files of the release repository, by name, while they are wanted.

The broker's kept session remembers subscriptions through a loss of the line and a crash: what is not wanted
any more is left as soon as it shows. Source: protocol section 5 "Releases", 2.
"""

from fleetward_broker.line import LineId, Link
from fleetward_schemas.topics import release


class Listening:
    """The extra topics of one device's line."""

    def __init__(self) -> None:
        self._here: frozenset[str] = frozenset()
        self._stale: frozenset[str] = frozenset()

    def reopened(self) -> None:
        """A line is gone: on the next one nothing is asked for yet, but the broker may still keep it."""
        self._stale |= self._here
        self._here = frozenset()

    def heard(self, topic: str) -> None:
        """Note what arrived though this run of the agent never asked for it."""
        if topic.startswith(release("")) and topic not in self._here:
            self._stale |= {topic}

    def match(self, link: Link, line: LineId, wanted: frozenset[str]) -> None:
        """Listen to what is wanted and to nothing else; asked for on this line, retained files come at once."""
        useless = (self._here | self._stale) - wanted
        link.unsubscribe(line, tuple(sorted(useless)))
        link.subscribe(line, tuple(sorted(wanted - self._here)))
        self._here, self._stale = wanted, frozenset()
