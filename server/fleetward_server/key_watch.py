"""Whether the authority's keys are there: asked for at the start until they are, and then again and again.

A token that is away costs certificates and nothing else, and what waits for them goes on when it is back. A wrong PIN
is waited for in one process, since each new one would try it again. Source: S6.
"""

import logging
import threading

from fleetward_broker.halt import SignalEvent
from fleetward_broker.key_problems import TokenLost, WrongPin
from fleetward_server.authority import Authority
from fleetward_server.config import Config
from fleetward_server.health import write_health

log = logging.getLogger("fleetward.server")

AGAIN_S = 3.0


def opened(config: Config, stopping: threading.Event | SignalEvent) -> Authority:
    """Open the keys, waiting for a token that is away or wants another PIN.

    Raises:
        TokenLost, WrongPin: told to stop meanwhile. KeyUnavailable, AuthorityProblem: waiting would not help.
    """
    said = ""
    while True:
        try:
            return Authority(config)
        except (TokenLost, WrongPin) as problem:
            if str(problem) != said:
                said = str(problem)
                log.error("waiting for keys", extra={"detail": said})  # noqa: TRY400
                write_health(config.folder, said)
            if stopping.wait(AGAIN_S):
                raise


class KeyWatch:
    """The keys of a server at work. trouble: what is wrong with them now, nothing when they are there."""

    def __init__(self, authority: Authority) -> None:
        """Watch these; they were there a moment ago."""
        self._authority = authority
        self.trouble = ""

    def look(self) -> bool:
        """Ask for them; say whether the answer is another than before."""
        before, self.trouble = self.trouble, self._authority.trouble()
        if before and not self.trouble:
            log.info("keys are back")
        elif self.trouble and not before:
            log.error("keys are away: nothing is certified", extra={"detail": self.trouble})
        return before != self.trouble
