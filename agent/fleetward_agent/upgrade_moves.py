"""How an upgrade goes from one phase to the next: by the table, written down first, then told.

Source: protocol section 5 "Releases"; schemas ``upgrade.NEXT``.
"""

from dataclasses import replace
from typing import Any

from fleetward_agent.instant import Instant
from fleetward_agent.reports import add_report
from fleetward_agent.session import Session
from fleetward_agent.turn import Note, Turn
from fleetward_agent.upgrade_effects import Needs, UpgradeEffect
from fleetward_agent.upgrade_state import Asked, Committed, RaiseFloor, Software, Upgrade, highest
from fleetward_agent.walk import Stage
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import MAX_ATTEMPTS, Event, Phase, Progress, Why, advance

FIRST_WAIT_S = 60
MOST_WAIT_S = 3600
MOST_TRIES = 3
"""How often rolling back is tried in vain before the target is locked; a newer one may still mend it."""
_WITH_REASON = {Phase.REFUSED, Phase.FAILED, Phase.ROLLING_BACK, Phase.LOCKED}


def this_run(session: Session) -> str:
    """Return a name for this run of the agent, in this boot of the host."""
    return f"{session.facts.boot_id} {session.facts.run}"


def with_software(session: Session, software: Software) -> Session:
    """Return the session with what is kept of software."""
    return replace(session, kept=replace(session.kept, software=software))


def put(session: Session, upgrade: Upgrade) -> Session:
    """Return the session with one upgrade in place of that of its name."""
    software = session.kept.software
    upgrades = tuple(upgrade if one.name == upgrade.name else one for one in software.upgrades)
    return with_software(session, replace(software, upgrades=upgrades))


def moved(session: Session, at: Instant, upgrade: Upgrade, event: Event, why: Why | None = None, **facts: Any) -> Turn:
    """Write the next phase down and tell it. facts: what else changes of the upgrade."""
    phase = advance(upgrade.phase, event)
    # What the new version waited for, the old one does not: unless rolling back says so anew.
    needs = Needs.NOTHING if event is Event.BROKEN else upgrade.needs
    after = replace(upgrade, **({"needs": needs} | facts), phase=phase, why=why, starts=0, tries=0)
    if phase is Phase.FAILED:
        after = _waiting(after, session, at)
    if event is Event.UNLOCK:
        after = replace(after, attempts=0, fails=0, again_ms=0)
    fields = (("software", after.name), ("phase", phase), ("reason", why or ""), ("attempt", after.attempts))
    turn = Turn(_fresh(put(session, after), phase), notes=(Note("upgrade", fields),))
    if phase is Phase.COMMITTED:
        turn = turn.also(_committed(turn.session, after))
    return turn.also(tell(turn.session, at, after))


def _waiting(upgrade: Upgrade, session: Session, at: Instant) -> Upgrade:
    """Between attempts: 1 min, doubling to 1 h, +- 50 %."""
    wait_s = min(MOST_WAIT_S, FIRST_WAIT_S * 2 ** min(upgrade.fails, 16)) * (0.5 + at.chance(f"again {upgrade.name}"))
    again_ms = to_ms(session.clock.now(at.boot_us)) + int(wait_s * 1000)
    return replace(upgrade, fails=upgrade.fails + 1, again_ms=again_ms)


def _fresh(session: Session, phase: Phase) -> Session:
    """Return the session with nothing known of the phase before."""
    work = replace(session.work, checking_us=None, check_us=0, checks=0, rollback_us=0)
    return replace(session, work=work if phase is Phase.ASSIGNED else replace(work, reading=None))


def _committed(session: Session, upgrade: Upgrade) -> Turn:
    """C8: only here a counter is raised, and highest() never takes a lower one."""
    one = Committed(upgrade.name, upgrade.counter, upgrade.sha256, upgrade.version)
    software = session.kept.software
    raised = replace(software, committed=highest(software.committed, (one,)))
    return Turn(with_software(session, raised), changes=(RaiseFloor(one),))


def tell(session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    """Report how far an upgrade got; while retiring nothing is said."""
    if session.retiring or session.kept.pair is None:
        return Turn(session)
    body = Progress(
        assignmentVersion=session.kept.software.version,
        name=upgrade.name,
        state=upgrade.phase,
        reason=upgrade.why if upgrade.phase in _WITH_REASON else None,
        attempt=min(MAX_ATTEMPTS, upgrade.attempts),
    )
    return add_report(session, at, "progress", body)


def tell_all(session: Session, at: Instant) -> Turn:
    """Report how far each upgrade got."""
    turn = Turn(session)
    for upgrade in session.kept.software.upgrades:
        turn = turn.also(tell(turn.session, at, upgrade))
    return turn


def open_need(session: Session, upgrade: Upgrade) -> Needs:
    """Return what an upgrade still waits for: of a restart, another run; of a reboot, another boot."""
    boot_id = upgrade.needed_in.partition(" ")[0]
    if upgrade.needs is Needs.REBOOT and boot_id == session.facts.boot_id:
        return Needs.REBOOT
    if upgrade.needs is Needs.RESTART and upgrade.needed_in == this_run(session):
        return Needs.RESTART
    return Needs.NOTHING


def any_need(session: Session) -> Needs:
    """Return what any of them waits for, a reboot before a restart."""
    found = {open_need(session, one) for one in session.kept.software.upgrades}
    return next((need for need in (Needs.REBOOT, Needs.RESTART) if need in found), Needs.NOTHING)


def at_work(session: Session, boot_us: int) -> bool:
    """Say whether the time is known and an ``online`` was acknowledged on the line that is open."""
    return session.stage is Stage.WORKING and session.connected and session.clock.synced(boot_us)


def ask(session: Session, upgrade: Upgrade, effect: UpgradeEffect) -> Turn:
    """Have one effect done off the loop; the one that is out, until its outcome comes."""
    asked = Asked(upgrade.identity, upgrade.phase)
    return Turn(replace(session, work=replace(session.work, asked=asked)), effects=(effect,))
