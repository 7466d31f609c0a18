"""When a device must be looked at again: the earliest moment at which one of its steps would do something."""

from collections.abc import Iterator

from fleetward_agent.clock import wanted_us
from fleetward_agent.commands import MOST_JOB_S
from fleetward_agent.instant import SECOND_US
from fleetward_agent.key_order import unsaid
from fleetward_agent.receipts import may_tell
from fleetward_agent.retirement import ends_in_us
from fleetward_agent.rotation import UNANSWERED_S
from fleetward_agent.session import Job, Session
from fleetward_agent.telemetry import can_tell
from fleetward_agent.upgrade import moments
from fleetward_agent.walk import DOORS, Stage

LONGEST_S = 30
"""At the latest: the clock's interval widens, and certificates end, without anybody's doing."""


def due_us(session: Session, boot_us: int) -> int:
    """Return the boot clock at which the next step is due."""
    return min(_moments(session, boot_us))


def _moments(session: Session, boot_us: int) -> Iterator[int]:
    yield boot_us + LONGEST_S * SECOND_US
    if session.stage is Stage.RESTING:
        yield session.rest_us
    if session.door is None and DOORS[session.stage] is not None:
        yield session.dial_us
    if can_tell(session, boot_us):
        yield session.telemetry_us
    if session.redial or session.retired or session.kept.doomed or unsaid(session):
        yield boot_us
    if session.retiring and session.kept.order is not None:
        yield boot_us + ends_in_us(session, boot_us)
    if session.stage is Stage.GREETING and session.kept.previous is not None and session.pair_us is not None:
        yield session.pair_us + UNANSWERED_S * SECOND_US
    if session.stage is Stage.ENROL:
        yield session.lapse_us
    yield from moments(session, boot_us)
    if session.connected:
        yield from _while_connected(session)
    if may_tell(session, boot_us):
        yield from (tally.silent_until_us for tally in session.tallies.values() if tally.count)


def _while_connected(session: Session) -> Iterator[int]:
    yield from (ask.due_us for ask in session.asks.values())
    if session.stage is Stage.HELLO and "hello" not in session.asks:
        yield session.hello_us
    if "time" not in session.asks:
        yield wanted_us(session)
    if session.stage is Stage.WORKING:
        yield from (flight.due_us for flight in session.flight.values())
        yield from (_job(job) for job in session.jobs[:1])


def _job(job: Job) -> int:
    return 0 if job.started_us is None else job.started_us + MOST_JOB_S * SECOND_US
