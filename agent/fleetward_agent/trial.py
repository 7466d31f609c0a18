"""An agent that its launcher tries: as long as its loop turns, the alarm that ends what hangs is wound up again.

Once it is kept, or given up, there is no trial any more and no alarm. Source: ``launch``.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from fleetward_agent.launch import HANG_S, ON_TRIAL, SLOTS, TRIAL


class Trial:
    """Call it after each turn; it does nothing where no launcher tries this agent."""

    def __init__(self, told: Mapping[str, str] = os.environ) -> None:
        self._file = Path(told[SLOTS]) / TRIAL if ON_TRIAL in told else None

    def __call__(self) -> None:
        """Wind the alarm up, or put it off for good."""
        if self._file is None:
            return
        if self._file.exists():
            signal.alarm(HANG_S)
        else:
            signal.alarm(0)
            self._file = None
