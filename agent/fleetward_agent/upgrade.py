"""Upgrades at the device: each phase written down before it is entered, entered again after a crash, ended by itself.

One upgrade at a time has slow work out, and one at a time stands between two versions. Nothing begins while the time is
unknown, outside of the window, while keys are changed or the device is retiring. A new version stays only if it proves
well: the time known, an ``online`` acknowledged, the scanner answering, and what its installer asks.
Source: S7, C7, C8; protocol section 5 "Releases".
"""

from collections.abc import Iterator
from dataclasses import replace

from fleetward_agent import upgrade_assign, upgrade_begin, upgrade_health, upgrade_reading
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.session import Session
from fleetward_agent.turn import Note, Turn
from fleetward_agent.upgrade_effects import (
    Activate,
    Activated,
    FetchTarget,
    HealthChecked,
    Install,
    Installed,
    Needs,
    ReleaseRead,
    Restart,
    RollBack,
    RolledBack,
    Settle,
    TargetFetched,
    UpgradeEffect,
    UpgradeOutcome,
)
from fleetward_agent.upgrade_moves import MOST_TRIES, any_need, ask, at_work, moved, open_need, put, this_run
from fleetward_agent.upgrade_state import RaiseFloor, Upgrade
from fleetward_agent.walk import Stage
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import MAX_ATTEMPTS, Event, Phase, Why

MOST_STARTS = 3
"""How often the agent may start within one phase of an attempt before the attempt is given up: a boot loop ends."""
ROLLBACK_GAP_S = 60
US_PER_MS = 1000
_GIVEN_UP = {Phase.INSTALLING: Why.INTERRUPTED, Phase.ACTIVATING: Why.INTERRUPTED, Phase.CHECKING: Why.UNHEALTHY}


def paused(session: Session) -> bool:
    """Say whether upgrades stand still: the device is leaving, or nobody any more."""
    return session.retiring or session.stage is Stage.RESTING


def step(session: Session, at: Instant) -> Turn:
    """Do what is due: at most one phase is left in a turn, so that each is written down before it is entered."""
    if paused(session):
        return Turn(session)
    turn = _wake(session, at)
    for one in (
        upgrade_assign.step,
        _need,
        upgrade_health.step,
        _end,
        _again,
        upgrade_begin.step,
        upgrade_reading.step,
    ):
        before = turn.session.kept.software
        turn = turn.then(one, at)
        if turn.session.kept.software != before:
            return turn
    return turn.then(_settle, at).then(_work, at)


def _wake(session: Session, at: Instant) -> Turn:
    """Once a run: count the start against what is under way, and see that both files know what is committed."""
    if session.work.woken:
        return Turn(session)
    session = replace(session, work=replace(session.work, woken=True))
    software = session.kept.software
    turn = Turn(session, changes=tuple(RaiseFloor(one) for one in software.committed))
    for upgrade in software.upgrades:
        if upgrade.underway or open_need(session, upgrade) is not Needs.NOTHING:
            turn = turn.also(_started(turn.session, at, replace(upgrade, starts=upgrade.starts + 1)))
    return turn


def _started(session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    """Give up an attempt within which the agent starts again and again, and a reboot that does not come."""
    why = _GIVEN_UP.get(upgrade.phase)
    if upgrade.starts > MOST_STARTS and why is not None:
        return moved(session, at, upgrade, Event.BROKEN, why)
    if upgrade.starts > MOST_STARTS and not upgrade.underway:
        upgrade = replace(upgrade, needs=Needs.NOTHING)
    return Turn(put(session, upgrade))


def _need(session: Session, _: Instant) -> Turn:
    """Have this agent or its host started anew, where a version waits for it; asked once a run."""
    if session.work.restarting or session.work.asked is not None:
        return Turn(session)
    needs = any_need(session)
    if needs is Needs.NOTHING:
        return Turn(session)
    return Turn(replace(session, work=replace(session.work, restarting=True)), effects=(Restart(needs),))


def _end(session: Session, at: Instant) -> Turn:
    """Lock a target after ten attempts, or one that cannot even be rolled back."""
    for one in session.kept.software.upgrades:
        if one.phase is Phase.FAILED and _exhausted(one) and open_need(session, one) is Needs.NOTHING:
            return moved(session, at, one, Event.EXHAUSTED, Why.ROLLBACK if one.why is Why.ROLLBACK else Why.ATTEMPTS)
    return Turn(session)


def _exhausted(upgrade: Upgrade) -> bool:
    return upgrade.attempts >= MAX_ATTEMPTS or upgrade.why is Why.ROLLBACK


def _again(session: Session, at: Instant) -> Turn:
    """Try again what failed, when its wait is over in trusted time."""
    now_ms = to_ms(session.clock.now(at.boot_us)) if session.clock.synced(at.boot_us) else 0
    for one in session.kept.software.upgrades:
        if one.phase is Phase.FAILED and one.again_ms <= now_ms and open_need(session, one) is Needs.NOTHING:
            return moved(session, at, one, Event.AGAIN)
    return Turn(session)


def _settle(session: Session, _: Instant) -> Turn:
    """Once a run, tell what is committed to stay."""
    work = session.work
    names = [
        one
        for one in session.kept.software.upgrades
        if one.phase is Phase.COMMITTED and one.attempts and one.name not in work.settled
    ]
    if not names or work.asked is not None:
        return Turn(session)
    settled = work.settled | {one.name for one in names}
    effects = tuple(Settle(one.release) for one in names)
    return Turn(replace(session, work=replace(work, settled=settled)), effects=effects)


def _work(session: Session, at: Instant) -> Turn:
    """Have done what the phase at hand is for, unless something is out already."""
    if session.work.asked is not None or session.work.restarting:
        return Turn(session)
    software = session.kept.software
    upgrade = software.underway
    if upgrade is None and at_work(session, at.boot_us):
        upgrade = next((one for one in software.upgrades if one.phase is Phase.DOWNLOADING), None)
    effect = None if upgrade is None else _effect(upgrade)
    if upgrade is None or effect is None:
        return Turn(session)
    if upgrade.phase is Phase.ROLLING_BACK and at.boot_us < session.work.rollback_us:
        return Turn(session)
    return ask(session, upgrade, effect)


def _effect(upgrade: Upgrade) -> UpgradeEffect | None:
    match upgrade.phase:
        case Phase.DOWNLOADING:
            return FetchTarget(upgrade.release)
        case Phase.INSTALLING:
            return Install(upgrade.release, upgrade.attempts)
        case Phase.ACTIVATING:
            return Activate(upgrade.release)
        case Phase.ROLLING_BACK:
            return RollBack(upgrade.release)
        case _:
            return None


def conclude(outcome: UpgradeOutcome, session: Session, at: Instant) -> Turn:
    """Go on with what slow work brought; what was for a target or a phase that is left counts for nothing."""
    asked, upgrade = session.work.asked, session.kept.software.named(outcome.name)
    session = replace(session, work=replace(session.work, asked=None))
    fields = (("outcome", type(outcome).__name__), ("reason", outcome.why or ""))
    turn = Turn(session, notes=(Note("upgrade-outcome", fields),))
    if asked is None or upgrade is None or (asked.identity, asked.phase) != (upgrade.identity, upgrade.phase):
        return turn
    return turn.also(_concluded(outcome, session, at, upgrade))


def _concluded(outcome: UpgradeOutcome, session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    match outcome:
        case ReleaseRead():
            return upgrade_reading.on_read(outcome, session, at, upgrade)
        case TargetFetched(why=why):
            return moved(session, at, upgrade, Event.FETCHED if why is None else Event.BROKEN, why)
        case Installed(why=why):
            return moved(session, at, upgrade, Event.INSTALLED if why is None else Event.BROKEN, why)
        case Activated(why=why, needs=needs):
            if why is not None:
                return moved(session, at, upgrade, Event.BROKEN, why)
            return moved(session, at, upgrade, Event.ACTIVATED, needs=needs, needed_in=this_run(session))
        case HealthChecked():
            return upgrade_health.on_checked(outcome, session, at, upgrade)
        case RolledBack():
            return _rolled_back(outcome, session, at, upgrade)


def _rolled_back(outcome: RolledBack, session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    """Go on once the version before runs; where it cannot be had, try a few times and say so."""
    if outcome.why is None:
        facts = {"needs": outcome.needs, "needed_in": this_run(session)}
        return moved(session, at, upgrade, Event.ROLLED_BACK, upgrade.why, **facts)
    if upgrade.tries + 1 >= MOST_TRIES:
        return moved(session, at, upgrade, Event.ROLLED_BACK, Why.ROLLBACK)
    later = replace(session.work, rollback_us=at.after_s(ROLLBACK_GAP_S * 2**upgrade.tries))
    return Turn(put(replace(session, work=later), replace(upgrade, tries=upgrade.tries + 1)))


def unlock(session: Session, at: Instant, name: str) -> Turn | None:
    """Let a locked target be tried again, ten times; one that is not locked needs nothing. None: no such name."""
    upgrade = session.kept.software.named(name)
    if upgrade is None:
        return None
    return moved(session, at, upgrade, Event.UNLOCK) if upgrade.phase is Phase.LOCKED else Turn(session)


def moments(session: Session, boot_us: int) -> Iterator[int]:
    """Return when ``step`` has something to do."""
    if paused(session):
        return
    software, work = session.kept.software, session.work
    if not work.woken or upgrade_assign.due(session):
        yield boot_us
    if not work.restarting and work.asked is None and any_need(session) is not Needs.NOTHING:
        yield boot_us
    for upgrade in software.upgrades:
        yield from _moments(session, upgrade, boot_us)
    yield from upgrade_reading.moments(session, boot_us)


def _moments(session: Session, upgrade: Upgrade, boot_us: int) -> Iterator[int]:
    work = session.work
    free = work.asked is None and not work.restarting
    match upgrade.phase:
        case Phase.CHECKING:
            yield boot_us if work.checking_us is None else work.checking_us + session.facts.health_s * SECOND_US
            if upgrade_health.may_check(session, upgrade, boot_us):
                yield work.check_us
        case Phase.FAILED if open_need(session, upgrade) is Needs.NOTHING:
            if _exhausted(upgrade):
                yield boot_us
            elif session.clock.synced(boot_us):
                left_ms = upgrade.again_ms - to_ms(session.clock.now(boot_us))
                yield boot_us + max(0, left_ms) * US_PER_MS
        case Phase.STAGED if free and upgrade_begin.may_begin(session, upgrade, boot_us):
            yield boot_us
        case Phase.INSTALLING | Phase.ACTIVATING if free:
            yield boot_us
        case Phase.ROLLING_BACK if free:
            yield work.rollback_us
        case Phase.DOWNLOADING if free and session.kept.software.underway is None and at_work(session, boot_us):
            yield boot_us
        case Phase.COMMITTED if free and upgrade.attempts and upgrade.name not in work.settled:
            yield boot_us
