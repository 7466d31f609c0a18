"""Where an upgrade's slow work is done: the repository read, the target fetched, and its installer asked.

In another thread, one effect at a time, and never without an answer: whatever an installer raises, a maker's own too,
is the failure of its step. Loaded at a device's first upgrade. Source: protocol section 5 "Releases".
"""

import errno
from collections.abc import Callable, Mapping
from threading import Event
from typing import TYPE_CHECKING

from fleetward_agent.hands import BROKEN, Means, SlowEffect, failed
from fleetward_agent.installers import Broken, Installer, Package
from fleetward_agent.release_reader import ReleaseReader
from fleetward_agent.upgrade_effects import (
    Activate,
    Activated,
    CheckHealth,
    FetchTarget,
    HealthChecked,
    Install,
    Installed,
    ReadRelease,
    RollBack,
    RolledBack,
    Settle,
    TargetFetched,
    UpgradeOutcome,
)
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.upgrade import Why

if TYPE_CHECKING:
    from fleetward_agent.download import Downloads

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MOST_DETAIL = 300


class Workshop:
    """The hands of one device. installers: what makes each, by the name of its software; made when first needed."""

    def __init__(
        self,
        reader: ReleaseReader,
        downloads: "Downloads",
        installers: Mapping[str, Callable[[], Installer]],
        stop: Event,
    ) -> None:
        self._reader = reader
        self._downloads = downloads
        self._makers = installers
        self._made: dict[str, Installer] = {}
        self._stop = stop

    def perform(self, effect: SlowEffect, means: Means) -> UpgradeOutcome | None:
        """Do one effect; what it raises is told to the log and becomes its outcome."""
        name = effect.release.name
        if name not in self._makers:
            return failed(effect, Why.NO_INSTALLER)
        try:
            return self._done(effect, means)
        except Broken as broken:
            why, detail = broken.why or BROKEN[type(effect)], str(broken)
        except OSError as error:
            why = Why.STORAGE if error.errno in NO_ROOM else BROKEN[type(effect)]
            detail = f"{error.filename or ''}: {error.strerror or type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - a maker's own installer raises what it likes
            # Its words may hold anything: the type alone is told.
            why, detail = BROKEN[type(effect)], type(error).__name__
        fields = {"effect": type(effect).__name__, "software": name, "why": str(why), "detail": detail[:MOST_DETAIL]}
        means.log("upgrade-problem", fields)
        return failed(effect, why)

    def stop(self) -> None:
        """End what is under way."""
        self._stop.set()

    def _done(self, effect: SlowEffect, means: Means) -> UpgradeOutcome | None:
        if isinstance(effect, ReadRelease):
            return self._reader.read(effect)
        if isinstance(effect, FetchTarget):
            if means.context is None:
                raise LocalMistake("a download was given no context")
            self._downloads.fetch(effect.release, means.context)
            return TargetFetched(effect.release.name)
        package = Package(effect.release, self._downloads.path(effect.release))
        return self._asked(effect, self._installer(effect.release.name), package)

    def _installer(self, name: str) -> Installer:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def _asked(
        self, effect: Install | Activate | CheckHealth | Settle | RollBack, installer: Installer, package: Package
    ) -> UpgradeOutcome | None:
        name = package.release.name
        match effect:
            case Install():
                installer.install(package)
                return Installed(name)
            case Activate():
                return Activated(name, installer.activate(package))
            case CheckHealth():
                installer.check(package)
                return HealthChecked(name)
            case RollBack():
                return RolledBack(name, installer.roll_back(package))
            case Settle():
                installer.settle(package)
                self._downloads.forget(name)
                return None
