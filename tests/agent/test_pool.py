"""Slow work is done beside the loop, comes back once, and no end of it is missing."""

import os
import select
import threading
from dataclasses import replace

import pytest

from fleetward_agent.hands import BROKEN, WITHIN_S, Later, Means, SlowEffect, failed, job_of
from fleetward_agent.instant import SECOND_US
from fleetward_agent.pool import Ended, Job, Threads
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
)
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.identity import Certification
from fleetward_schemas.upgrade import Release, Why
from tests.world import Provider, Stage

RELEASE = Release.read(
    {
        "name": "firmware",
        "target": "acme/fw-2.bin",
        "counter": 2,
        "hashes": {"sha256": "A" * 43},
        "length": 4,
        "url": "https://server.example/acme/fw-2.bin",
    }
)
OK = Installed("firmware")
LATE = Installed("firmware", Why.INSTALL)
WAIT_S = 60


class Gate:
    """Work that waits to be let go."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self) -> Installed:
        self.begun.set()
        self.let.wait(WAIT_S)
        return OK


@pytest.fixture
def pool():
    made = Threads(2)
    yield made
    made.close()


def heard(pool: Threads, now_us: int = 0) -> list[Ended]:
    assert select.select([pool.fileno()], [], [], WAIT_S)[0], "nothing ended"
    return pool.ended(now_us)


def test_what_ended_is_told_once_and_wakes_who_waits(pool: Threads) -> None:
    pool.ask(7, Job(lambda: OK, LATE, 60), 0)

    assert heard(pool) == [Ended(7, OK)]
    assert pool.ended(0) == []
    assert select.select([pool.fileno()], [], [], 0)[0] == []


def test_more_jobs_than_threads_wait_their_turn(pool: Threads) -> None:
    first, second, third = Gate(), Gate(), Gate()
    for owner, gate in enumerate((first, second, third)):
        pool.ask(owner, Job(gate, LATE, 60), 0)

    assert first.begun.wait(WAIT_S)
    assert second.begun.wait(WAIT_S)
    assert not third.begun.is_set()
    first.let.set()
    assert heard(pool) == [Ended(0, OK)]
    assert third.begun.wait(WAIT_S)
    second.let.set()
    third.let.set()


def test_a_job_that_never_ends_is_told_as_failed_and_bars_nobody(pool: Threads) -> None:
    stuck = [Gate(), Gate()]
    for owner, gate in enumerate(stuck):
        pool.ask(owner, Job(gate, LATE, 60), 0)

    assert pool.ended(60 * SECOND_US - 1) == []
    assert pool.ended(60 * SECOND_US) == [Ended(0, LATE, late=True), Ended(1, LATE, late=True)]
    pool.ask(2, Job(lambda: OK, LATE, 60), 60 * SECOND_US)
    assert heard(pool) == [Ended(2, OK)]
    for gate in stuck:
        gate.let.set()
    assert pool.ended(60 * SECOND_US) == []


def test_a_closed_pool_leaves_its_descriptor_to_threads_that_still_work() -> None:
    pool, gate = Threads(1), Gate()
    pool.ask(1, Job(gate, LATE, 60), 0)
    assert gate.begun.wait(WAIT_S)
    pool.close()

    assert os.fstat(pool.fileno())
    gate.let.set()
    assert select.select([pool.fileno()], [], [], WAIT_S)[0]


EFFECTS: list[tuple[SlowEffect, object]] = [
    (ReadRelease(RELEASE, (), frozenset(), 0), ReleaseRead("firmware", why=Why.METADATA)),
    (FetchTarget(RELEASE), TargetFetched("firmware", Why.DOWNLOAD)),
    (Install(RELEASE, 1), Installed("firmware", Why.INSTALL)),
    (Activate(RELEASE), Activated("firmware", why=Why.ACTIVATE)),
    (CheckHealth(RELEASE), HealthChecked("firmware", Why.UNHEALTHY)),
    (RollBack(RELEASE), RolledBack("firmware", why=Why.ROLLBACK)),
    (Settle(RELEASE), None),
]


@pytest.mark.parametrize(("effect", "outcome"), EFFECTS)
def test_every_effect_has_an_outcome_for_its_failure(effect: SlowEffect, outcome: object) -> None:
    assert failed(effect, BROKEN[type(effect)]) == outcome
    assert {type(one) for one, _ in EFFECTS} == set(WITHIN_S) == set(BROKEN)


def test_without_hands_nothing_can_be_installed() -> None:
    job = job_of(Install(RELEASE, 1), None, lambda: pytest.fail("no context is wanted"), print)

    assert job.act() == Installed("firmware", Why.NO_INSTALLER)


class Recorded:
    """Hands that note what they are asked, and answer that it went well."""

    def __init__(self) -> None:
        self.asked: list[SlowEffect] = []
        self.contexts: list[object] = []
        self.stopped = False

    def perform(self, effect: SlowEffect, means: Means) -> object:
        self.asked.append(effect)
        self.contexts.append(means.context)
        done = failed(effect, Why.INSTALL)
        return None if done is None else replace(done, why=None)

    def stop(self) -> None:
        self.stopped = True


def test_hands_are_made_at_the_first_effect_and_kept() -> None:
    made: list[Recorded] = []
    later = Later(lambda: made.append(Recorded()) or made[-1])  # type: ignore[arg-type, return-value, func-returns-value]
    later.stop()
    assert made == []

    later.perform(Install(RELEASE, 1), Means(None, print))
    later.perform(Settle(RELEASE), Means(None, print))
    later.stop()

    assert [(len(one.asked), one.stopped) for one in made] == [(2, True)]


@pytest.fixture
def stage() -> Stage:
    stage = Stage(Provider(), Certification.L0)
    stage.parts = replace(stage.parts, hands=Recorded())  # type: ignore[arg-type]
    stage.start()
    stage.until(lambda: stage.device.stage == "working")
    return stage


def test_a_devices_slow_work_is_done_one_piece_at_a_time_and_its_outcome_taken(stage: Stage) -> None:
    for effect in (Install(RELEASE, 1), FetchTarget(RELEASE), Settle(RELEASE)):
        stage.device.slow.ask(effect)
    stage.pass_s(5)

    assert [type(one).__name__ for one in stage.parts.hands.asked] == ["Install", "FetchTarget", "Settle"]
    assert [one is not None for one in stage.parts.hands.contexts] == [False, True, False]
    assert [one["outcome"] for one in stage.events("upgrade-outcome")] == ["Installed", "TargetFetched"]


def test_a_download_whose_key_is_away_has_failed(stage: Stage) -> None:
    stage.device.slow.ask(FetchTarget(RELEASE))

    def away() -> object:
        raise KeyUnavailable("away")

    job = stage.device.slow.next_job(away, print)  # type: ignore[arg-type]

    assert job is not None
    assert job.act() == TargetFetched("firmware", Why.DOWNLOAD)
    assert stage.parts.hands.asked == []


def test_a_restart_is_told_to_whoever_runs_the_host_and_nothing_is_begun_before_it(stage: Stage) -> None:
    assert stage.host.wants is None
    stage.device.slow.ask(Restart(Needs.RESTART))
    stage.device.slow.ask(Install(RELEASE, 1))
    stage.pass_s(2)

    assert stage.host.wants is Needs.RESTART
    assert stage.parts.hands.asked == []


def test_a_device_that_leaves_has_its_work_stopped(stage: Stage) -> None:
    stage.device.slow.ask(Install(RELEASE, 1))
    stage.host.shut()
    stage.until(lambda: stage.host.closed)
    stage.host.release()

    assert stage.parts.hands.stopped
    assert stage.parts.hands.asked == []
