"""Who does an upgrade's slow work, as the device sees it, and what counts where the work itself breaks.

Every effect that is asked ends in its outcome: an exception, a plug-in's too, and a job that never comes back are
failures with the fitting reason, so no upgrade waits for ever. What really works is ``workshop``, loaded at the first
upgrade: an idle agent carries none of it.
"""

import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fleetward_agent.pool import Job
from fleetward_agent.upgrade_effects import (
    Activate,
    Activated,
    CheckHealth,
    FetchTarget,
    HealthChecked,
    Install,
    Installed,
    Needs,
    ReadRelease,
    ReleaseRead,
    Restart,
    RollBack,
    RolledBack,
    Settle,
    TargetFetched,
    UpgradeEffect,
    UpgradeOutcome,
)
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.upgrade import Why

SlowEffect = ReadRelease | FetchTarget | Install | Activate | CheckHealth | Settle | RollBack
WITHIN_S: dict[type[SlowEffect], float] = {
    ReadRelease: 60,
    FetchTarget: 6 * 3600,
    Install: 3600,
    Activate: 3600,
    CheckHealth: 900,
    Settle: 900,
    RollBack: 3600,
}
"""When a job counts as failed though it has not come back. What is built in ends earlier by its own limits."""
BROKEN: dict[type[SlowEffect], Why] = {
    ReadRelease: Why.METADATA,
    FetchTarget: Why.DOWNLOAD,
    Install: Why.INSTALL,
    Activate: Why.ACTIVATE,
    CheckHealth: Why.UNHEALTHY,
    Settle: Why.INTERRUPTED,
    RollBack: Why.ROLLBACK,
}
"""What broken work is called, unless it says better itself."""


Log = Callable[[str, Mapping[str, str | int]], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What a job is given beside its effect. context: what a download dials with; log: where what broke is told."""

    context: ssl.SSLContext | None
    log: Log


class Hands(Protocol):
    """The slow work of one device; ``perform`` is called in another thread, one effect at a time."""

    def perform(self, effect: SlowEffect, means: Means) -> UpgradeOutcome | None:
        """Do one effect, and raise nothing."""
        ...

    def stop(self) -> None:
        """End what is under way as soon as can be: the process ends, and the work is done again after it."""
        ...


def failed(effect: SlowEffect, why: Why) -> UpgradeOutcome | None:
    """Return the outcome of an effect that broke."""
    name = effect.release.name
    match effect:
        case ReadRelease():
            return ReleaseRead(name, why=why)
        case FetchTarget():
            return TargetFetched(name, why)
        case Install():
            return Installed(name, why)
        case Activate():
            return Activated(name, why=why)
        case CheckHealth():
            return HealthChecked(name, why)
        case RollBack():
            return RolledBack(name, why=why)
        case Settle():
            return None


def job_of(effect: SlowEffect, hands: Hands | None, context: Callable[[], ssl.SSLContext], log: Log) -> Job:
    """Return an effect as a job. context: asked here and now, for what holds the keys is the loop's.

    Raises:
        KeyUnavailable, OSError: of ``context``.
    """
    kind = type(effect)
    late = failed(effect, BROKEN[kind])
    if hands is None:
        missing = failed(effect, Why.NO_INSTALLER)
        return Job(lambda: missing, late, WITHIN_S[kind])
    means = Means(context() if isinstance(effect, FetchTarget) else None, log)
    return Job(lambda: hands.perform(effect, means), late, WITHIN_S[kind])


class Later:
    """Hands that are made when they are first needed. make: called once."""

    def __init__(self, make: Callable[[], Hands]) -> None:
        self._make = make
        self._made: Hands | None = None

    def perform(self, effect: SlowEffect, means: Means) -> UpgradeOutcome | None:
        """Do one effect."""
        if self._made is None:
            self._made = self._make()
        return self._made.perform(effect, means)

    def stop(self) -> None:
        """End what is under way."""
        if self._made is not None:
            self._made.stop()


class SlowWork:
    """What one device has asked for and not begun. wants: a restart, once one was asked for.

    kept: outcomes that could not be committed; they are concluded again.
    """

    def __init__(self, hands: Hands | None) -> None:
        self._hands = hands
        self._asked: deque[SlowEffect] = deque()
        self.kept: deque[UpgradeOutcome] = deque()
        self.wants: Needs | None = None

    def ask(self, effect: UpgradeEffect) -> None:
        """Have an effect done, after those before it."""
        if isinstance(effect, Restart):
            self.wants = effect.needs
        else:
            self._asked.append(effect)

    def next_job(self, context: Callable[[], ssl.SSLContext], log: Log) -> Job | None:
        """Return what is to be begun; where its context cannot be had, a job that says so."""
        if not self._asked or self.wants is not None:
            return None
        effect = self._asked.popleft()
        try:
            return job_of(effect, self._hands, context, log)
        except (KeyUnavailable, OSError):
            broken = failed(effect, BROKEN[type(effect)])
            return Job(lambda: broken, broken, WITHIN_S[type(effect)])

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._asked.clear()
        if self._hands is not None:
            self._hands.stop()
