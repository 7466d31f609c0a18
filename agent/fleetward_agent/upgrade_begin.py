"""When installing may begin: inside the window, the time known, nothing else under way, and both agreed not long ago.

What was released when it was downloaded may have been withdrawn before its window came, so an agreement is good for a
day; then the repository is read again first. Source: C7, C8; protocol section 5 "Releases".
"""

from fleetward_agent.instant import Instant
from fleetward_agent.session import Session
from fleetward_agent.turn import Turn
from fleetward_agent.upgrade_effects import Needs
from fleetward_agent.upgrade_moves import at_work, moved
from fleetward_agent.upgrade_state import Upgrade
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import Event, Phase, Why, may_install

FRESH_MS = 24 * 3600 * 1000
US_PER_MS = 1000


def step(session: Session, at: Instant) -> Turn:
    """Begin to install what is staged, where it may; the attempt counts from here."""
    upgrade = staged(session)
    work = session.work
    if upgrade is None or work.asked is not None or work.restarting or not may_begin(session, upgrade, at.boot_us):
        return Turn(session)
    if not may_install(upgrade.counter, session.kept.software.floor(upgrade.name).counter):  # C8: no downgrade
        return moved(session, at, upgrade, Event.BROKEN, Why.DOWNGRADE)
    return moved(session, at, upgrade, Event.BEGIN, attempts=upgrade.attempts + 1, needs=Needs.NOTHING)


def staged(session: Session) -> Upgrade | None:
    """Return the upgrade that is next to be installed."""
    return next((one for one in session.kept.software.upgrades if one.phase is Phase.STAGED), None)


def may_begin(session: Session, upgrade: Upgrade, boot_us: int) -> bool:
    """Say whether it may begin now, with an agreement that is fresh."""
    return _is_time(session, boot_us) and _is_fresh(session, upgrade, boot_us)


def to_be_agreed(session: Session, boot_us: int) -> Upgrade | None:
    """Return the upgrade that might begin now, had both agreed on it lately."""
    upgrade = staged(session)
    if upgrade is None or not _is_time(session, boot_us) or _is_fresh(session, upgrade, boot_us):
        return None
    return upgrade


def _is_time(session: Session, boot_us: int) -> bool:
    kept = session.kept
    # New keys and new software are each a walk of its own: one that fails must not take the other with it.
    if kept.software.underway is not None or kept.order is not None or kept.previous is not None:
        return False
    return at_work(session, boot_us) and _in_window(session, boot_us)


def _in_window(session: Session, boot_us: int) -> bool:
    """Say whether it is surely within the window: both ends of trusted time are."""
    software = session.kept.software
    if not software.to_ms:
        return True
    earliest_us, latest_us = session.clock.earliest_at(boot_us), session.clock.latest_at(boot_us)
    return software.from_ms * US_PER_MS <= earliest_us and latest_us < software.to_ms * US_PER_MS


def _is_fresh(session: Session, upgrade: Upgrade, boot_us: int) -> bool:
    return to_ms(session.clock.now(boot_us)) - upgrade.agreed_ms < FRESH_MS
