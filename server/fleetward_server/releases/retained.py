"""What the broker shall hold of the repository: every file of the set in force, ``timestamp`` last, the old ones gone.

A plan without a line or a clock: told what the set is and what was delivered, it says what to publish next. Names carry
versions, so that a file once delivered stays as it is; only ``timestamp`` and who sealed it change. What a new set does
not name stays for an hour, for whoever is reading, and is then cleared; roots never are.
Source: wire, section "Upgrades" 1 and 2; MQTT 3.1.1 section 3.3.1.3 (an empty payload clears).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward_broker.line import Token
from fleetward_schemas.topics import is_release_file
from fleetward_server.releases.files import TIMESTAMP

GRACE = timedelta(hours=1)
AGAIN = timedelta(days=1)
"""Everything is sealed anew after this long, long before the certificate of whoever sealed it ends."""
WINDOW = 16
"""Files on their way at once."""


@dataclass(frozen=True, slots=True)
class Next:
    """What to publish: a file's bytes, or None to clear its topic."""

    file: str
    raw: bytes | None


class Retained:
    """What is at the broker, what should be, and what is on its way."""

    def __init__(self, told: Mapping[str, datetime | None]) -> None:
        """Begin. told: files that the broker may hold -> since when nothing names them any more."""
        self.told = dict(told)
        self._set: dict[str, bytes] = {}
        self._done: dict[str, bytes] = {}
        self._waiting: deque[str] = deque()
        self._away: dict[Token, Next] = {}
        self._sealed_by = ""
        self._since: datetime | None = None

    @property
    def done(self) -> bool:
        """Whether the broker holds the whole set."""
        return bool(self._set) and self._done == self._set

    def hold(self, files: Mapping[str, bytes]) -> None:
        """Hold this set from now on, in its order."""
        self._set = dict(files)
        self._plan()

    def begin_again(self) -> None:
        """A line is new, or the one before was lost: nothing on its way is, and the broker may have forgotten."""
        self._done, self._away, self._since = {}, {}, None
        self._plan()

    def look(self, sealed_by: str, now: datetime) -> bool:
        """Look what is due: another seal, another day, a grace that is over; return whether ``told`` changed.

        sealed_by: thumbprint of the key that would seal now.
        """
        if sealed_by != self._sealed_by or (self._since is not None and now - self._since >= AGAIN):
            self._sealed_by, self._done, self._since = sealed_by, {}, None
            self._plan()
        before = dict(self.told)
        self.told |= dict.fromkeys(self._set)
        if self.done:
            self._since = self._since or now
            for file in self.told:
                if file not in self._set and not file.endswith(".root"):
                    self.told[file] = self.told[file] or now
        return self.told != before

    def next(self, now: datetime) -> Next | None:
        """Return what to publish next; None while enough is on its way, or nothing is due."""
        if len(self._away) >= WINDOW:
            return None
        if self._waiting:
            # It names all the others, so it follows when they are there.
            if self._waiting[0] == TIMESTAMP and self._away:
                return None
            file = self._waiting.popleft()
            return Next(file, self._set[file])
        going = {one.file for one in self._away.values()}
        late = (file for file, since in self.told.items() if since is not None and now - since >= GRACE)
        return next((Next(file, None) for file in late if file not in going and file not in self._set), None)

    def sent(self, token: Token, what: Next) -> None:
        """It is on its way."""
        self._away[token] = what

    def not_sent(self, what: Next) -> None:
        """The line took none of it: it is next again."""
        if what.raw is not None:
            self._waiting.appendleft(what.file)

    def delivered(self, token: Token) -> bool:
        """The broker took one; return whether ``told`` changed."""
        what = self._away.pop(token, None)
        if what is None:
            return False
        if what.raw is not None:
            if self._set.get(what.file) == what.raw:
                self._done[what.file] = what.raw
            return False
        return self.told.pop(what.file, self) is not self

    def _plan(self) -> None:
        self._done = {file: raw for file, raw in self._done.items() if self._set.get(file) == raw}
        going = {one.file for one in self._away.values() if one.raw is not None and self._set.get(one.file) == one.raw}
        self._waiting = deque(file for file in self._set if file not in self._done and file not in going)


def readable(told: Mapping[str, object]) -> dict[str, datetime | None]:
    """Read what was written down; what is no file of a repository is left out."""
    return {
        file: None if since is None else datetime.fromisoformat(str(since))
        for file, since in told.items()
        if is_release_file(file)
    }
