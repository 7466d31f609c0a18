"""The one line of a device: opened, spoken on, listened on, left. Where there is none, nothing happens.

Beside its own subscriptions a line listens to files of the release repository, by name, while they are wanted. The
broker's kept session remembers subscriptions through a loss of the line and a crash: what is not wanted any more is
left as soon as it shows. Source: protocol section 5 "Releases", 2.
"""

from fleetward_broker.line import Arrived, DialMaker, LineId, Link
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.topics import release


class OwnLine:
    """See the module. id: of the line that stands or is being opened, None: there is none."""

    def __init__(self) -> None:
        """Have no line and no link to open one on."""
        self.id: LineId | None = None
        self._link: Link | None = None
        self._here: frozenset[str] = frozenset()
        self._stale: frozenset[str] = frozenset()

    def begin(self, link: Link) -> None:
        """Be opened on ``link`` from now on."""
        self._link = link

    def open(self, dial: DialMaker) -> LineId:
        """Have one opened."""
        if self._link is None:
            raise LocalMistake("the device was not begun")
        self.id = self._link.open(dial)
        return self.id

    def close(self) -> None:
        """Leave politely what is then waited for as ``Lost``, or forgotten."""
        if self._link is not None and self.id is not None:
            self._link.close(self.id)

    def forget(self) -> None:
        """Have none: on the next one nothing more is listened to yet, but the broker may still keep it."""
        self._stale |= self._here
        self._here = frozenset()
        self.id = None

    def ack(self, arrived: Arrived) -> None:
        """Acknowledge what asks for it."""
        if self._link is not None and arrived.qos:
            self._link.ack(arrived)

    def publish(self, topic: str, sealed: bytes) -> None:
        """Send one message."""
        if self._link is not None and self.id is not None:
            self._link.publish(self.id, topic, sealed)

    def heard(self, topic: str) -> None:
        """Note what arrived though this run of the agent never asked for it."""
        if topic.startswith(release("")) and topic not in self._here:
            self._stale |= {topic}

    def follow(self, wanted: frozenset[str]) -> None:
        """Listen to what is wanted and to nothing else; asked for on this line, retained files come at once."""
        if self._link is None or self.id is None:
            return
        useless = (self._here | self._stale) - wanted
        self._link.unsubscribe(self.id, tuple(sorted(useless)))
        self._link.subscribe(self.id, tuple(sorted(wanted - self._here)))
        self._here, self._stale = wanted, frozenset()
