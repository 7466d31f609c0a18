"""Time at the server: answers bound to a nonce, beacons, and what we know of our own clock's error.

``received`` is rounded up and ``sent`` down to the millisecond: rounding may only widen a device's interval.
A server that does not know its own error answers no time. Source: S3; protocol section 5 "Time".
"""

import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleetward_schemas.clock import TimeAnswer, TimeQuestion
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.moment import from_ms, show, to_ms
from fleetward_schemas.topics import down
from fleetward_server.settings import TimeTable
from fleetward_server.turn import Known, Policy, Reply, Said, Turn

CHRONYC = ("chronyc", "-c", "-n")
CHRONY_TIMEOUT_S = 5
MOST_RADIUS_MS = 10_000
LEAP_MS = 1000
"""An announced leap second: whoever was told the time before it is off by so much after it."""
LOOK_MS = 1
"""What our oscillator may gain or lose until the next look at the source."""
_MEASURED, _OFFSET, _ROOT_DELAY, _ROOT_DISPERSION, _LEAP = 3, 4, 10, 11, 13
_IN_USE, _OWN_CLOCK = frozenset("*+"), "#"
_LEAPS = frozenset({"Insert second", "Delete second"})


@dataclass(frozen=True, slots=True)
class Sureness:
    """What the server knows of its own clock. radius_ms: bound of its error, None when it does not know.

    measured: names the source's last measurement; another name, another measurement.
    """

    source: str
    radius_ms: int | None
    detail: str = ""
    measured: str = ""


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
    return replace(reply, body=reply.body.changed(sent=show(now)))


def tellable(replies: Sequence[Reply], radius_ms: int) -> list[Reply]:
    """Return what may be said: no time answer, where meanwhile we have ceased to know our own error."""
    return [reply for reply in replies if radius_ms or not isinstance(reply.body, TimeAnswer)]


def _up(moment: datetime) -> datetime:
    """Round up to the millisecond."""
    floor = from_ms(to_ms(moment))
    return floor if floor == moment else floor + timedelta(milliseconds=1)


def sureness(table: TimeTable, chronyc: tuple[str, ...] = CHRONYC) -> Sureness:
    """Return what bounds our clock's error now; ``assumed`` is the operator's word and is marked as such everywhere."""
    if table.source == "assumed":
        return Sureness("assumed", table.radius_ms, "the operator's word, not measured")
    try:
        sure = read_tracking(_told(chronyc, "tracking"))
        sources = _told(chronyc, "sources")
    except (OSError, subprocess.SubprocessError) as error:
        return Sureness("chrony", None, f"{' '.join(chronyc)}: {type(error).__name__}")
    try:
        unproven = not_by_nts(sources, _told(chronyc, "authdata"))
    except (OSError, subprocess.SubprocessError):
        # Told through chronyd's own socket alone, to root and to chrony's group.
        unproven = "chronyc authdata is refused to us"
    if not unproven:
        return replace(sure, detail=f"{sure.detail}, by NTS")
    return replace(sure, radius_ms=None, detail=f"[time] require_nts: {unproven}") if table.require_nts else sure


def _told(chronyc: tuple[str, ...], what: str) -> str:
    done = subprocess.run((*chronyc, what), capture_output=True, text=True, timeout=CHRONY_TIMEOUT_S, check=True)
    return done.stdout


def not_by_nts(sources: str, authdata: str) -> str:
    """Return why the time in use is not proven by NTS (RFC 8915); nothing when every source in use is.

    sources, authdata: what ``chronyc -c`` says of them. A clock of the host's own needs no proof.
    """
    modes = {line.split(",")[0]: line.split(",")[1:2] for line in authdata.splitlines() if line}
    rows = [line.split(",") for line in sources.splitlines() if line]
    used = [(row[0], row[2]) for row in rows if row[1:2] and row[1] in _IN_USE and len(row) > 2]
    if not used:
        return "no source is in use"
    bare = [name for mode, name in used if mode != _OWN_CLOCK and modes.get(name) != ["NTS"]]
    return f"not by NTS: {', '.join(bare)}" if bare else ""


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
    leap_ms = LEAP_MS if leap in _LEAPS else 0
    radius_ms = math.ceil((offset + delay / 2 + dispersion) * 1000) + LOOK_MS + leap_ms
    if radius_ms > MOST_RADIUS_MS:
        return Sureness("chrony", None, f"chrony's error bound is {radius_ms} ms: at most {MOST_RADIUS_MS} ms serve")
    detail = f"measured; {leap.lower()} is announced" if leap_ms else "measured"
    return Sureness("chrony", radius_ms, detail, fields[_MEASURED])
