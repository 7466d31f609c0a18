"""Health of a new version: what must hold before it stays, and within which time.

The time is known, an ``online`` was acknowledged on the line that is open, the scanner answers, and the installer finds
it well. What does not prove well in time is rolled back. Source: protocol section 5 "Releases", 7.
"""

from dataclasses import replace

from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.session import Session
from fleetward_agent.turn import Turn
from fleetward_agent.upgrade_effects import CheckHealth, HealthChecked, Needs, ScannerSeen, SeeScanner
from fleetward_agent.upgrade_moves import ask, at_work, moved, open_need
from fleetward_agent.upgrade_state import Upgrade
from fleetward_schemas.upgrade import Event, Phase, Why

MOST_CHECKS = 3
"""How often the installer may find it ill before it is believed."""
CHECK_GAP_S = 10


def step(session: Session, at: Instant) -> Turn:
    """Give a new version its time to prove well, and look at it where it can be."""
    upgrade = session.kept.software.underway
    if upgrade is None or upgrade.phase is not Phase.CHECKING:
        return Turn(session)
    work = session.work
    since = at.boot_us if work.checking_us is None else work.checking_us
    session = replace(session, work=replace(work, checking_us=since))
    if at.boot_us - since >= session.facts.health_s * SECOND_US:
        return moved(session, at, upgrade, Event.BROKEN, Why.UNHEALTHY)
    ready = may_check(session, upgrade, at.boot_us) and at.boot_us >= work.check_us
    return Turn(session, effects=(SeeScanner(upgrade.name),) if ready else ())


def may_check(session: Session, upgrade: Upgrade, boot_us: int) -> bool:
    """Say whether it can be looked at now: it is the one that runs, and the device is at work."""
    waits = session.work.asked is not None or open_need(session, upgrade) is not Needs.NOTHING
    return not waits and at_work(session, boot_us)


def on_scanner(outcome: ScannerSeen, session: Session, at: Instant) -> Turn:
    """Ask the installer for its health check once the scanner answers."""
    upgrade = session.kept.software.named(outcome.name)
    if upgrade is None or upgrade.phase is not Phase.CHECKING or session.work.asked is not None:
        return Turn(session)
    if not outcome.answers:
        return Turn(replace(session, work=replace(session.work, check_us=at.after_s(CHECK_GAP_S))))
    return ask(session, upgrade, CheckHealth(upgrade.release))


def on_checked(outcome: HealthChecked, session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    """Commit what is well; what is ill is asked again, a few times."""
    why = outcome.why
    if why is None and at_work(session, at.boot_us):
        return moved(session, at, upgrade, Event.HEALTHY)
    checks = session.work.checks + (why is not None)
    if why is not None and checks >= MOST_CHECKS:
        return moved(session, at, upgrade, Event.BROKEN, why)
    return Turn(replace(session, work=replace(session.work, checks=checks, check_us=at.after_s(CHECK_GAP_S))))
