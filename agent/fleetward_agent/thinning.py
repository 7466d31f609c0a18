"""How telemetry gives way: every second reading of the oldest half goes, then again, and so on until all fits.

So what is old becomes coarse before it is gone, and what is new stays whole. A walk goes along the oldest half of the
reports once; the next one begins at the oldest again. A thinned report keeps its id: if the server has it already, the
server's is the whole one. Source: protocol section 4.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk stands. last: the report thinned last; end: the last of the oldest half; odd: of the readings."""

    last: str = ""
    end: str = ""
    odd: bool = False


def thinned(body: str, *, odd: bool) -> tuple[str | None, int, bool]:
    """Take every second reading out of a telemetry report's body.

    odd: whether the first reading is one to go. Returns the body, None where nothing is left, how many readings went,
    and what ``odd`` is for the next report.
    """
    readings = json.loads(body)["readings"]
    kept = readings[1 if odd else 0 :: 2]
    left = json.dumps({"readings": kept}, separators=(",", ":")) if kept else None
    return left, len(readings) - len(kept), odd ^ (len(readings) % 2 == 1)
