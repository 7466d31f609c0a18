"""A device that can be upgraded: a stage, a release repository on the broker, and hands that do as they are told."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from fleetward_agent.hands import SlowEffect
from fleetward_agent.release_reader import ReleaseReader
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
    RollBack,
    RolledBack,
    Settle,
    TargetFetched,
    UpgradeOutcome,
)
from fleetward_agent.upgrade_state import Software, Upgrade
from fleetward_agent.walk import Stage as At
from fleetward_schemas import moment
from fleetward_schemas.envelope import seal
from fleetward_schemas.strict import b64url
from fleetward_schemas.topics import release as topic_of
from fleetward_schemas.upgrade import Assignment, Phase, Progress, Release, ReleaseFile, Why, Window
from tests.repository import Repository, release, target
from tests.world import Provider, Stage


@dataclass
class Bench:
    """Hands, and the host they work on. fails: by effect, the reason it will have. needs: of the next activation.

    runs: by name, the counter that runs now; staged: what was installed beside it. well: whether a version is.
    """

    reader: ReleaseReader
    done: list[SlowEffect] = field(default_factory=list)
    fails: dict[type[SlowEffect], Why] = field(default_factory=dict)
    needs: Needs = Needs.NOTHING
    runs: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)
    well: Callable[[int], bool] = lambda _: True

    def perform(self, effect: SlowEffect, context: ssl.SSLContext | None) -> UpgradeOutcome | None:
        self.done.append(effect)
        name, counter, why = effect.release.name, effect.release.counter, self.fails.get(type(effect))
        match effect:
            case ReadRelease():
                return self.reader.read(effect)
            case FetchTarget():
                return TargetFetched(name, why)
            case Install():
                self.staged |= {name: counter} if why is None else {}
                return Installed(name, why)
            case Activate():
                return self._activate(name, counter, why)
            case CheckHealth():
                well = self.runs.get(name) == counter and self.well(counter) and why is None
                return HealthChecked(name, None if well else why or Why.UNHEALTHY)
            case RollBack():
                if why is None:
                    self.runs[name] = self.before.get(name, self.runs.get(name, 0))
                return RolledBack(name, self.needs, why)
            case Settle():
                self.before.pop(name, None)
                return None

    def _activate(self, name: str, counter: int, why: Why | None) -> Activated:
        if why is None:
            assert self.staged[name] == counter, "what was never installed is activated"
            if self.runs.get(name) != counter:
                self.before[name] = self.runs.get(name, 0)
            self.runs[name] = counter
        return Activated(name, self.needs, why)

    def stop(self) -> None:
        """Nothing is under way between two turns."""

    def asked(self, kind: type[SlowEffect]) -> list[Release]:
        return [one.release for one in self.done if isinstance(one, kind)]


class Upgrading(Stage):
    """A stage whose device can be upgraded; ``firmware`` 2 is released."""

    def __init__(self, provider: Provider, *, publish: bool = True, root: bool = True) -> None:
        super().__init__(provider)
        self.repository = Repository(self.clock.now)
        self.repository.publish(target())
        identity = self.origin.digital_id
        model = f"{identity.make}/{identity.model}"
        self.bench = Bench(ReleaseReader(self.repository.first if root else None, None, model))
        self.bench.runs["firmware"] = 1
        self.parts = replace(self.parts, hands=self.bench)
        self.restarts = self.version = 0
        self.reboots = True
        self.start()
        self.until(lambda: self.device.stage is At.WORKING)
        if publish:
            self.publish()

    def publish(self, *files: str) -> None:
        """Retain files of the repository on the broker, as the server signs them."""
        for file in files or self.repository.files:
            self.put_file(file, self.repository.files[file])

    def put_file(self, file: str, raw: bytes) -> None:
        draft = self.server.draft(self.id, "release", ReleaseFile(metadata=b64url(raw)), seq=0)
        draft = replace(draft, topic=topic_of(file), digital_id=self.server.server_identity())
        self.link.retain(draft.topic, seal(draft, self.server.signer.by_chain(), self.clock.now))

    def assign(self, *releases: Release, version: int | None = None, window: Window | None = None) -> int:
        """Have the director assign; return the version."""
        made = version or max(self.version + 1, moment.to_ms(self.clock.now))
        self.version = max(self.version, made)
        self.server.say(self.id, Assignment(version=made, releases=list(releases), window=window))
        return made

    def turn(self, timeout_s: float = 0.05) -> None:
        super().turn(timeout_s)
        if self.host.wants is not None:
            self.restart(self.host.wants)

    def restart(self, needs: Needs = Needs.RESTART) -> None:
        """End the process, or the host, and start it anew."""
        self.restarts += 1
        self.link.cut()
        if needs is Needs.REBOOT and self.reboots:
            self.boot_id = f"boot-{self.restarts + 1}"
            self.clock.boot_us = 30_000_000
        self.start()

    @property
    def software(self) -> Software:
        return self.device.session.kept.software

    @property
    def firmware(self) -> Upgrade:
        found = self.software.named("firmware")
        assert found is not None
        return found

    @property
    def told(self) -> list[tuple[str, str | None, int]]:
        """What the server heard: phase, reason, attempt; each report once, in the order of their making."""
        reports = [self.server.reports[one].body for one in sorted(self.server.reports)]
        return [(p.state, p.reason, p.attempt) for p in reports if isinstance(p, Progress)]

    def reach(self, phase: Phase, within_s: float = 600) -> None:
        self.until(lambda: (one := self.software.named("firmware")) and one.phase is phase, within_s)

    def committed(self) -> int:
        return self.software.floor("firmware").counter


def window(stage: Upgrading, from_s: float, to_s: float) -> Window:
    """Return a window that begins and ends so many seconds from now."""
    ends = [moment.show(stage.clock.now + timedelta(seconds=s)) for s in (from_s, to_s)]
    return Window.read({"from": ends[0], "to": ends[1]})


__all__ = ["Bench", "Upgrading", "release", "target", "window"]
