"""Time at the server: answers bound to a nonce, beacons, and what we know of our own clock's error.

``received`` is rounded up and ``sent`` down to the millisecond: rounding may only widen a device's interval.
A server that does not know its own error answers no time. Source: S3; protocol section 5 "Time".
"""

import math
import subprocess
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleetward_schemas.clock import TimeAnswer, TimeQuestion
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.moment import from_ms, show, to_ms
from fleetward_schemas.topics import down
from fleetward_server.config import TimeTable
from fleetward_server.turn import Known, Policy, Reply, Said, Turn

CHRONY_COMMAND = ("chronyc", "-c", "tracking")
CHRONY_TIMEOUT_S = 5
MOST_RADIUS_MS = 10_000
_OFFSET, _ROOT_DELAY, _ROOT_DISPERSION, _LEAP = 4, 10, 11, 13


@dataclass(frozen=True, slots=True)
class Sureness:
    """What the server knows of its own clock. radius_ms: bound of its error, None when it does not know."""

    source: str
    radius_ms: int | None
    detail: str = ""


def on_time(said: Said, _: Known, policy: Policy) -> Turn:
    """Answer a time question; ``sent`` is stamped once more when the answer leaves."""
    if not isinstance(said.body, TimeQuestion):
        raise LocalMistake("on_time was given another kind")
    if policy.radius_ms <= 0:
        # Unsure of our own clock: silence is safer than a wide guess.
        return Turn()
    principal = said.opened.address.principal
    if principal is None:
        raise LocalMistake("a time question without a principal")
    answer = TimeAnswer(
        nonce=said.body.nonce,
        received=show(_up(said.arrived_at)),
        sent=show(said.arrived_at),
        radiusMs=policy.radius_ms,
    )
    return Turn(replies=(Reply(down(principal.name, "time"), answer, said.digital_id, in_reply_to=said.id),))


def stamp(reply: Reply, now: datetime) -> Reply:
    """Return a reply as it leaves at ``now``: a time answer says when it was sent, to the millisecond below."""
    if not isinstance(reply.body, TimeAnswer):
        return reply
    return replace(reply, body=reply.body.model_copy(update={"sent": show(now)}))


def _up(moment: datetime) -> datetime:
    """Round up to the millisecond."""
    floor = from_ms(to_ms(moment))
    return floor if floor == moment else floor + timedelta(milliseconds=1)


def sureness(table: TimeTable, command: tuple[str, ...] = CHRONY_COMMAND) -> Sureness:
    """Return what bounds our clock's error now; ``assumed`` is the operator's word and is marked as such everywhere."""
    if table.source == "assumed":
        return Sureness("assumed", table.radius_ms, "the operator's word, not measured")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHRONY_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Sureness("chrony", None, f"{' '.join(command)}: {type(error).__name__}")
    return read_tracking(done.stdout)


def read_tracking(line: str) -> Sureness:
    """Read ``chronyc -c tracking``: the error is bounded by offset + root delay / 2 + root dispersion."""
    fields = line.strip().split(",")
    try:
        offset, delay, dispersion = (abs(float(fields[i])) for i in (_OFFSET, _ROOT_DELAY, _ROOT_DISPERSION))
        leap = fields[_LEAP]
    except (IndexError, ValueError):
        return Sureness("chrony", None, "chronyc answered in another form than expected")
    if leap == "Not synchronised":
        return Sureness("chrony", None, "chrony is not synchronised")
    radius_ms = math.ceil((offset + delay / 2 + dispersion) * 1000)
    if radius_ms > MOST_RADIUS_MS:
        return Sureness("chrony", None, f"chrony's error bound is {radius_ms} ms: at most {MOST_RADIUS_MS} ms serve")
    return Sureness("chrony", radius_ms, "measured")
