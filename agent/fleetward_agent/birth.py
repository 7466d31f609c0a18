"""How a session begins: from what the factory put in and what the device kept.

Source: protocol section 5: clock (a reboot keeps the floor alone), commands (after a crash they run again).
"""

from dataclasses import replace

from fleetward_agent import BUILT
from fleetward_agent.budget import Budget
from fleetward_agent.commands import job_of
from fleetward_agent.enrol import DAY_S
from fleetward_agent.instant import Instant
from fleetward_agent.origin import Origin
from fleetward_agent.outbox import BUDGET_DAY, BUDGET_SPENT, Outbox
from fleetward_agent.parts import Options, Parts
from fleetward_agent.session import Facts, Session
from fleetward_agent.state import Kept, Suffixes
from fleetward_agent.upgrade_state import Software, Upgrade, highest
from fleetward_agent.walk import Stage
from fleetward_schemas import clock as law
from fleetward_schemas.commands import KEY_VERBS, ResultState, Verb
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import Phase

SUFFIX_BYTES = 16
RUN_BYTES = 8


def with_suffixes(kept: Kept, at: Instant) -> Kept:
    """Return what is kept, with the secret ends of the client ids made if they were not."""
    if kept.suffixes.factory:
        return kept
    made = (at.draw(f"suffix {name}", SUFFIX_BYTES).hex() for name in ("factory", "device", "unsynced"))
    return replace(kept, suffixes=Suffixes(*made))


def born(origin: Origin, kept: Kept, parts: Parts, options: Options, boot_id: str, at: Instant) -> Session:
    """Return the session of a device that was just started."""
    outbox, drift_ppm = parts.outbox, options.drift_ppm
    clock = law.restore(kept.clock, BUILT, boot_id, at.boot_us, drift_ppm=drift_ppm, slept_us=at.slept_us)
    session = Session(
        facts=facts_of(origin, boot_id, at, options),
        kept=with_floors(kept, outbox),
        clock=clock,
        stage=Stage.FACTORY_TIME if kept.pair is None else Stage.DEVICE_TIME,
        dial_us=at.boot_us,
        telemetry_us=at.boot_us,
        windows=outbox.windows(),
        jobs=tuple(job_of(row) for row in outbox.open_commands() if Verb(row.verb) not in KEY_VERBS),
        order_row=_told(kept, outbox),
        refused_times=kept.refused_times,
        budget=Budget(options.bytes_per_day, outbox.counter(BUDGET_DAY), outbox.counter(BUDGET_SPENT)),
    )
    return session if kept.gone is None else _resting(session, kept.gone.at_ms, at)


def with_floors(kept: Kept, outbox: Outbox) -> Kept:
    """Return what is kept with the counters that are committed, as the higher of both files has them. C8."""
    software = kept.software
    committed = highest(software.committed, outbox.floors())
    software = replace(software, committed=committed)
    # After a fall back to an older state: what is committed is not checked, nor rolled back, a second time, and what
    # is below it is over, whatever stands there.
    upgrades = tuple(
        replace(one, phase=Phase.COMMITTED) if one.underway and _runs(one, software) else one
        for one in software.upgrades
        if one.counter >= software.floor(one.name).counter or not (one.underway or one.phase is Phase.COMMITTED)
    )
    return replace(kept, software=replace(software, upgrades=upgrades))


def _runs(upgrade: Upgrade, software: Software) -> bool:
    floor = software.floor(upgrade.name)
    return (floor.counter, floor.sha256) == (upgrade.counter, upgrade.sha256)


def facts_of(origin: Origin, boot_id: str, at: Instant, options: Options) -> Facts:
    """Take from the factory's work what steps may know; no keys."""
    return Facts(
        device_id=origin.device_id,
        identity=origin.digital_id,
        certification=origin.certification,
        purpose=origin.purpose,
        env=origin.env,
        anchors=origin.anchors,
        boot_id=boot_id,
        started_us=at.boot_us,
        ftm=origin.ftm is not None,
        need_ms=options.need_ms,
        health_s=options.health_s,
        run=at.draw("run", RUN_BYTES).hex(),
        mosip=origin.mosip,
    )


def _told(kept: Kept, outbox: Outbox) -> ResultState | None:
    row = None if kept.order is None else outbox.command(kept.order.command_id)
    return None if row is None else row.state


def _resting(session: Session, gone_ms: int, at: Instant) -> Session:
    """Stay silent for what is left of the day since the server said retired or revoked."""
    passed_s = (to_ms(session.clock.now(at.boot_us)) - gone_ms) / 1000
    left_s = min(DAY_S, max(0.0, DAY_S - passed_s))
    return replace(session, stage=Stage.RESTING, rest_us=at.after_s(left_s))
