"""A crash at every commit: whatever was written down or not, effects are done again and nothing unlawful comes of it.

Held after every crash and at the end: the counter committed never falls; nothing is installed that both did not agree
on; from between two versions only an upgrade's own end leads out; at most ten attempts of a target.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_agent.outbox import Outbox
from fleetward_agent.state import Kept, StateFile
from fleetward_agent.turn import Change
from fleetward_agent.upgrade_effects import (
    Activate,
    CheckHealth,
    FetchTarget,
    Install,
    Needs,
    ReadRelease,
    ReleaseRead,
    RollBack,
)
from fleetward_agent.upgrade_state import Committed, RaiseFloor, Software, highest
from fleetward_schemas.upgrade import MAX_ATTEMPTS, NEXT, Phase, Why, may_install
from tests.agent.upgrading import Upgrading, release
from tests.repository import IMAGE
from tests.world import Provider

NEWER = b"firmware, version three"
RELEASED = {2: IMAGE, 3: NEWER}
ENOUGH = 400


class Crash(Exception):  # noqa: N818
    """The process is gone."""


class Fuse:
    """Counts the points of one run, and blows at one of them."""

    def __init__(self) -> None:
        self.points = 0
        self.at: int | None = None

    def pass_by(self) -> None:
        self.points += 1
        if self.at == self.points:
            raise Crash


class CrashingState(StateFile):
    """Dies before or after it wrote software down; keeps every generation that was written."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__(None)
        self.fuse = fuse
        self.written: list[Software] = []

    def save(self, kept: Kept) -> None:
        if not self.written or kept.software != self.written[-1]:
            self.fuse.pass_by()
            super().save(kept)
            self.written.append(kept.software)
            self.fuse.pass_by()
        else:
            super().save(kept)


class CrashingOutbox(Outbox):
    """Dies after it raised a floor."""

    fuse = Fuse()

    def commit(self, changes: Sequence[Change]) -> int:
        done = super().commit(changes)
        if any(isinstance(one, RaiseFloor) for one in changes):
            self.fuse.pass_by()
        return done


class Believer:
    """A reader that knows what was released, without reading."""

    def read(self, wanted: ReadRelease) -> ReleaseRead:
        one = wanted.release
        agreed = one == release(RELEASED[one.counter], counter=one.counter)
        return ReleaseRead(one.name, version=str(one.counter)) if agreed else ReleaseRead(one.name, why=Why.MISMATCH)


class Doomed(Upgrading):
    """A device whose process dies where its fuse says."""

    looks = False

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider, publish=False)
        self.fuse = Fuse()
        self.state = CrashingState(self.fuse)
        self.state.save(self.parts.state.load())
        outbox = CrashingOutbox(None)
        outbox.fuse = self.fuse
        self.bench.reader = Believer()  # type: ignore[assignment]
        self.parts = replace(self.parts, state=self.state, outbox=outbox)
        self.link.cut()
        self.start()
        self.turn()
        self.fuse.points = 0
        self.floors: list[int] = []
        self.looks = True

    def turn(self, timeout_s: float = 0.05) -> None:
        try:
            super().turn(timeout_s)
        except Crash:
            self.link.cut()
            self.start()
        if self.looks:
            self.look()

    def look(self) -> None:
        """Hold what must hold now."""
        software = self.state.load().software
        floors = {one.name: one.counter for one in highest(software.committed, self.parts.outbox.floors())}
        self.floors.append(floors.get("firmware", 0))
        assert self.floors == sorted(self.floors), "a counter fell"
        assert all(one.attempts <= MAX_ATTEMPTS for one in software.upgrades)
        assert sum(one.underway for one in software.upgrades) <= 1

    def check(self) -> None:
        """Hold what must hold of the whole run."""
        for one in self.bench.asked(Install):
            assert one == release(RELEASED[one.counter], counter=one.counter), "nobody agreed to it"
        for before, after in zip(self.state.written, self.state.written[1:], strict=False):
            _lawful(before, after)
        committed = {one.counter for software in self.state.written for one in software.committed}
        assert all(may_install(one, 0) for one in committed)


def _lawful(before: Software, after: Software) -> None:
    """Each phase written down follows from the one before, and software underway stays in the assignment."""
    for one in before.upgrades:
        now = next((other for other in after.upgrades if other.identity == one.identity), None)
        assert now is not None or not one.underway, "left between two versions"
        if now is not None and now.phase is not one.phase:
            begun_anew = before.version != after.version and now.phase is Phase.ASSIGNED
            assert now.phase in NEXT[one.phase].values() or (begun_anew and not one.underway), (one.phase, now.phase)


def ran(stage: Doomed, final: Phase, script: dict[type, Why], needs: Needs) -> bool:
    """Assign, and turn until it ended; say whether it did."""
    stage.bench.fails, stage.bench.needs = script, needs
    version = stage.assign(release())
    for _ in range(ENOUGH):
        stage.turn(1.0)
        firmware = stage.device.session.kept.software.named("firmware")
        if firmware is None:
            stage.assign(release(), version=version)  # the server sends again what was never taken
        elif firmware.phase is final:
            return True
    return False


SCRIPTS: dict[str, tuple[Phase, dict[type, Why], Needs]] = {
    "well": (Phase.COMMITTED, {}, Needs.NOTHING),
    "restart": (Phase.COMMITTED, {}, Needs.RESTART),
    "reboot": (Phase.COMMITTED, {}, Needs.REBOOT),
    "ill": (Phase.FAILED, {CheckHealth: Why.UNHEALTHY}, Needs.NOTHING),
    "ill, and started anew": (Phase.FAILED, {CheckHealth: Why.UNHEALTHY}, Needs.REBOOT),
    "not installed": (Phase.FAILED, {Install: Why.INSTALL}, Needs.NOTHING),
    "not rolled back": (Phase.LOCKED, {Activate: Why.ACTIVATE, RollBack: Why.ROLLBACK}, Needs.NOTHING),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crash_at_any_one_commit_comes_to_the_same_lawful_end(provider: Provider, name: str) -> None:
    final, script, needs = SCRIPTS[name]
    whole = Doomed(provider)
    assert ran(whole, final, script, needs)
    whole.check()
    points = whole.fuse.points
    assert points > 10
    for at in range(1, points + 1):
        stage = Doomed(provider)
        stage.fuse.at = at
        assert ran(stage, final, script, needs), f"stuck after a crash at {at} of {points}"
        stage.pass_s(2)
        stage.check()
        assert stage.fuse.points >= at, "the crash never came"
        assert stage.bench.runs["firmware"] == (2 if final is Phase.COMMITTED else 1)


STEPS = st.sampled_from(["crash", "turn", "turn", "wait", "assign 2", "assign 3", "assign none", "forge", "reboot"])
FAILS = st.dictionaries(st.sampled_from([FetchTarget, Install, Activate, CheckHealth, RollBack]), st.just(Why.INSTALL))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(STEPS, FAILS, st.integers(1, 6), st.sampled_from(Needs)), min_size=5, max_size=30))
def test_nothing_unlawful_comes_of_any_order_of_crashes_assignments_and_failures(
    provider: Provider, steps: list[tuple[str, dict[type, Why], int, Needs]]
) -> None:
    stage = Doomed(provider)
    for step, fails, ahead, needs in steps:
        stage.bench.fails, stage.bench.needs = fails, needs
        match step.split():
            case ["crash"]:
                stage.fuse.at = stage.fuse.points + ahead
            case ["wait"]:
                stage.pass_s(120)
            case ["assign", "none"]:
                stage.assign()
            case ["assign", counter]:
                stage.assign(release(RELEASED[int(counter)], counter=int(counter)))
            case ["forge"]:
                stage.assign(release(b"malware", counter=3))
            case ["reboot"]:
                stage.restart(Needs.REBOOT)
        for _ in range(ahead):
            stage.turn(1.0)
    stage.check()


def test_a_counter_is_kept_when_the_state_falls_back_to_an_older_one(provider: Provider) -> None:
    stage = Doomed(provider)
    assert ran(stage, Phase.COMMITTED, {}, Needs.NOTHING)
    stage.pass_s(2)
    installs = len(stage.bench.asked(Install))
    for software in reversed(stage.state.written[:-1]):
        StateFile.save(stage.state, replace(stage.state.load(), software=software))
        stage.restart()
        stage.pass_s(60)
        assert stage.committed() == 2
        assert stage.bench.runs["firmware"] == 2

    assert len(stage.bench.asked(Install)) == installs


def test_a_counter_is_kept_when_the_outbox_is_lost(provider: Provider) -> None:
    stage = Doomed(provider)
    assert ran(stage, Phase.COMMITTED, {}, Needs.NOTHING)
    stage.parts = replace(stage.parts, outbox=Outbox(None))
    stage.restart()
    stage.pass_s(5)

    assert stage.committed() == 2
    assert [one.counter for one in stage.parts.outbox.floors()] == [2]


@pytest.mark.parametrize("lower", ["state", "outbox"])
def test_of_two_files_that_differ_the_higher_counter_counts_and_mends_the_other(provider: Provider, lower: str) -> None:
    stage = Doomed(provider)
    assert ran(stage, Phase.COMMITTED, {}, Needs.NOTHING)
    behind = stage.parts.outbox if lower == "outbox" else None
    before = stage.state.load()
    stage.assign(release(NEWER, counter=3))
    stage.until(lambda: stage.committed() == 3)
    if behind is None:
        StateFile.save(stage.state, replace(stage.state.load(), software=before.software))
    else:
        older = Outbox(None)
        older.commit([RaiseFloor(one) for one in before.software.committed])
        stage.parts = replace(stage.parts, outbox=older)
    stage.restart()
    stage.pass_s(5)

    assert stage.committed() == 3
    assert [one.counter for one in stage.parts.outbox.floors()] == [3]
    stage.assign(release(IMAGE, counter=2))
    stage.reach(Phase.REFUSED)
    assert stage.firmware.why is Why.DOWNGRADE


def test_a_lower_floor_changes_nothing() -> None:
    outbox = Outbox(None)
    for counter in (2, 3, 1, 3):
        outbox.commit([RaiseFloor(Committed("firmware", counter, str(counter), f"{counter}.0"))])

    assert outbox.floors() == (Committed("firmware", 3, "3", "3.0"),)


@pytest.mark.parametrize("counters", [(1, 2), (2, 1)])
def test_the_highest_of_a_name_is_kept_wherever_it_stands(counters: tuple[int, int]) -> None:
    one, other = (Committed("firmware", counter, "") for counter in counters)
    agent = Committed("agent", 7, "")

    assert [(found.name, found.counter) for found in highest((one, agent), (other,))] == [("agent", 7), ("firmware", 2)]
