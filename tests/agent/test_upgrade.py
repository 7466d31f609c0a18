"""An upgrade's whole way at the device, in virtual time: what begins it, what ends it, what it never does."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_agent.upgrade_effects import (
    Activate,
    CheckHealth,
    FetchTarget,
    Install,
    Needs,
    ReadRelease,
    RollBack,
    Settle,
)
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas import moment
from fleetward_schemas.commands import ResultState
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.upgrade import MAX_ATTEMPTS, Hashes, Phase, Why
from tests.agent.orders import order, results
from tests.agent.upgrading import Upgrading, release, target, window
from tests.world import Provider

HAPPY = ["assigned", "downloading", "staged", "installing", "activating", "checking", "committed"]
HOUR_S = 3600


@pytest.fixture
def stage(provider: Provider) -> Upgrading:
    return Upgrading(provider)


def test_what_is_released_and_assigned_is_installed_and_proves_well(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED, 60)
    stage.pass_s(5)

    assert stage.bench.runs["firmware"] == stage.committed() == 2
    assert [phase for phase, _, _ in stage.told] == HAPPY
    assert [(reason, attempt) for _, reason, attempt in stage.told] == [(None, 0)] * 3 + [(None, 1)] * 4
    kinds = [type(one) for one in stage.bench.done if not isinstance(one, ReadRelease)]
    assert kinds == [FetchTarget, Install, Activate, CheckHealth, Settle]
    assert stage.software.floor("firmware").version == "2.0"


@pytest.mark.parametrize("needs", [Needs.RESTART, Needs.REBOOT])
def test_a_version_that_needs_a_new_start_is_checked_after_it(stage: Upgrading, needs: Needs) -> None:
    stage.bench.needs = needs
    stage.assign(release())
    stage.until(lambda: stage.restarts == 1)
    assert stage.firmware.phase is Phase.CHECKING
    assert not stage.bench.asked(CheckHealth)
    stage.reach(Phase.COMMITTED)

    assert stage.restarts == 1
    assert stage.committed() == 2


def test_a_restart_alone_is_no_reboot(stage: Upgrading) -> None:
    stage.bench.needs = Needs.REBOOT
    stage.assign(release())
    stage.until(lambda: stage.host.wants is Needs.REBOOT or stage.restarts)
    stage.boot_id = "boot-1"  # the process came back, the host did not
    stage.clock.boot_us = 600_000_000
    stage.start()
    stage.until(lambda: stage.restarts == 2)

    assert not stage.bench.asked(CheckHealth)
    stage.reach(Phase.COMMITTED)


@pytest.mark.parametrize(
    ("kind", "why", "phases"),
    [
        (FetchTarget, Why.WRONG_HASH, ["downloading", "failed"]),
        (FetchTarget, Why.DOWNLOAD, ["downloading", "failed"]),
        (Install, Why.INSTALL, ["installing", "rolling-back", "failed"]),
        (Activate, Why.ACTIVATE, ["activating", "rolling-back", "failed"]),
        (CheckHealth, Why.UNHEALTHY, ["checking", "rolling-back", "failed"]),
    ],
)
def test_what_breaks_is_told_with_its_reason_rolled_back_and_tried_again(
    stage: Upgrading, kind: type, why: Why, phases: list[str]
) -> None:
    stage.bench.fails[kind] = why
    stage.assign(release())
    stage.reach(Phase.FAILED, 120)
    stage.pass_s(2)

    assert [phase for phase, _, _ in stage.told][-len(phases) :] == phases
    assert stage.told[-1][1] == why
    assert stage.bench.runs["firmware"] == 1
    assert stage.committed() == 0
    stage.bench.fails.clear()
    stage.reach(Phase.COMMITTED, 120)
    assert stage.committed() == 2


def test_attempts_are_counted_when_installing_is_written_down(stage: Upgrading) -> None:
    stage.bench.fails[FetchTarget] = Why.DOWNLOAD
    stage.assign(release())
    stage.until(lambda: len(stage.bench.asked(FetchTarget)) == 3, HOUR_S)
    assert stage.firmware.attempts == 0
    stage.bench.fails = {Install: Why.INSTALL}
    stage.until(lambda: stage.firmware.phase is Phase.ROLLING_BACK, HOUR_S)

    assert stage.firmware.attempts == 1


def test_waits_between_attempts_double_from_a_minute_to_an_hour(stage: Upgrading) -> None:
    stage.bench.fails[FetchTarget] = Why.DOWNLOAD
    stage.assign(release())
    stage.reach(Phase.FAILED)
    waits = []
    for fails in range(1, 11):
        stage.until(lambda n=fails: stage.firmware.fails == n, 2 * HOUR_S)  # type: ignore[misc]
        waits.append((stage.firmware.again_ms - moment.to_ms(stage.clock.now)) / 1000)

    for wait, middle in zip(waits, [60 * 2**n for n in range(6)] + [3600] * 4, strict=True):
        assert middle / 2 - 1 <= wait <= middle * 1.5
    assert len({round(wait) for wait in waits[-4:]}) > 1


def locked(stage: Upgrading) -> None:
    stage.bench.fails[Install] = Why.INSTALL
    stage.assign(release())
    stage.reach(Phase.LOCKED, 24 * HOUR_S)
    stage.pass_s(2)


def test_ten_failed_attempts_lock_a_target_until_an_operator_unlocks_it(stage: Upgrading) -> None:
    locked(stage)
    assert stage.told[-1] == ("locked", "attempts", MAX_ATTEMPTS)
    assert len(stage.bench.asked(Install)) == MAX_ATTEMPTS
    stage.pass_s(2 * HOUR_S)
    assert len(stage.bench.asked(Install)) == MAX_ATTEMPTS
    stage.bench.fails.clear()
    unlock = order(stage, "unlock-upgrade", name="firmware")
    stage.reach(Phase.COMMITTED, 60)
    stage.pass_s(2)

    assert results(stage, unlock)[-1] is ResultState.SUCCEEDED
    assert stage.told[-1] == ("committed", None, 1)


def test_unlocking_a_name_nobody_knows_fails_and_one_that_is_not_locked_changes_nothing(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    unknown = order(stage, "unlock-upgrade", name="agent")
    stage.until(lambda: len(results(stage, unknown)) == 2)
    known = order(stage, "unlock-upgrade", name="firmware")
    stage.until(lambda: len(results(stage, known)) == 2)

    assert results(stage, unknown)[-1] is ResultState.FAILED
    assert results(stage, known)[-1] is ResultState.SUCCEEDED
    assert stage.firmware.phase is Phase.COMMITTED


def test_a_locked_target_stays_locked_when_it_is_assigned_again_even_after_another(stage: Upgrading) -> None:
    locked(stage)
    stage.assign()
    stage.pass_s(2)
    stage.assign(release())
    stage.pass_s(HOUR_S)

    assert stage.firmware.phase is Phase.LOCKED
    assert len(stage.bench.asked(Install)) == MAX_ATTEMPTS


def test_a_newer_target_may_mend_what_locked_the_one_before(stage: Upgrading) -> None:
    locked(stage)
    stage.bench.fails.clear()
    stage.repository.publish(target(counter=3))
    stage.publish()
    stage.assign(release(counter=3))
    stage.reach(Phase.COMMITTED, 60)

    assert stage.committed() == 3


def test_what_cannot_be_rolled_back_is_locked_after_a_few_tries(stage: Upgrading) -> None:
    stage.bench.fails = {Activate: Why.ACTIVATE, RollBack: Why.ROLLBACK}
    stage.assign(release())
    stage.reach(Phase.LOCKED, HOUR_S)
    stage.pass_s(2)

    assert [(phase, reason) for phase, reason, _ in stage.told][-3:] == [
        ("rolling-back", "activate"),
        ("failed", "rollback"),
        ("locked", "rollback"),
    ]
    assert len(stage.bench.asked(RollBack)) == 3


@pytest.mark.parametrize("counter", [1, 2])
def test_downgrade_a_counter_not_above_the_one_committed_is_refused(stage: Upgrading, counter: int) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    image = b"another image"
    stage.repository.publish(target(image, counter=counter))
    stage.publish()
    stage.pass_s(2)
    stage.assign(release(image, counter=counter))
    stage.reach(Phase.REFUSED, 60)
    stage.pass_s(2)

    assert stage.told[-1] == ("refused", "downgrade", 0)
    assert stage.committed() == stage.bench.runs["firmware"] == 2


def test_what_is_committed_already_is_told_as_committed_and_not_installed_again(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.assign()
    stage.until(lambda: not stage.software.upgrades)
    stage.pass_s(2)
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.pass_s(2)

    assert stage.told[-1] == ("committed", None, 0)
    assert len(stage.bench.asked(Install)) == 1


def test_counters_of_two_names_are_their_own(stage: Upgrading) -> None:
    agent = target(b"agent", name="agent", counter=1, version="1.0")
    agent.path = "acme/agent-1.bin"
    stage.repository.publish(target(), agent)
    stage.publish()
    stage.bench.runs["agent"] = 0
    both = (release(), release(b"agent", name="agent", target="acme/agent-1.bin", counter=1))
    stage.assign(*both)
    stage.until(lambda: {one.phase for one in stage.software.upgrades} == {Phase.COMMITTED})

    assert [(one.name, one.counter) for one in stage.software.committed] == [("agent", 1), ("firmware", 2)]
    spans = [type(one) for one in stage.bench.done if isinstance(one, Install | CheckHealth)]
    assert spans == [Install, CheckHealth, Install, CheckHealth]


def test_installing_waits_for_its_window_and_downloading_does_not(stage: Upgrading) -> None:
    stage.assign(release(), window=window(stage, 600, 900))
    stage.reach(Phase.STAGED)
    stage.pass_s(500)
    assert stage.firmware.phase is Phase.STAGED
    stage.reach(Phase.COMMITTED, 200)

    assert stage.clock.now >= moment.EPOCH + timedelta(milliseconds=stage.software.from_ms)


def test_a_window_that_is_over_begins_nothing(stage: Upgrading) -> None:
    stage.assign(release(), window=window(stage, -900, 1))
    stage.reach(Phase.STAGED)
    stage.pass_s(HOUR_S)

    assert stage.firmware.phase is Phase.STAGED
    assert not stage.bench.asked(Install)


def test_nothing_begins_while_the_time_is_unknown(stage: Upgrading) -> None:
    stage.assign(release(), window=window(stage, 60, HOUR_S))
    stage.reach(Phase.STAGED)
    stage.server.silent.add("time")
    stage.restart(Needs.REBOOT)
    stage.pass_s(600)
    assert stage.device.stage is At.DEVICE_TIME
    assert not stage.bench.asked(Install)
    stage.server.silent.clear()
    stage.reach(Phase.COMMITTED)


def test_nothing_begins_while_keys_are_changed_and_keys_wait_for_software_underway(stage: Upgrading) -> None:
    stage.server.silent.add("csr")
    rotate = order(stage, "rotate-key")
    stage.until(lambda: results(stage, rotate))
    stage.assign(release())
    stage.reach(Phase.STAGED)
    stage.pass_s(120)
    assert not stage.bench.asked(Install)
    stage.server.silent.clear()
    stage.until(lambda: len(results(stage, rotate)) == 2)
    stage.reach(Phase.COMMITTED)


def test_a_rotation_while_software_is_between_two_versions_is_busy_and_retiring_is_not(stage: Upgrading) -> None:
    stage.bench.well = lambda _: False
    stage.scanner.sighting = replace(stage.scanner.sighting, status=DeviceStatus.NOT_READY)
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    rotate = order(stage, "rotate-key")
    stage.until(lambda: results(stage, rotate))
    assert results(stage, rotate) == [ResultState.REFUSED]
    retire = order(stage, "retire")
    stage.until(lambda: stage.device.stage is At.RESTING)

    assert results(stage, retire)[-1] is ResultState.SUCCEEDED
    told = stage.told
    stage.pass_s(HOUR_S)
    assert stage.told == told


def test_a_retired_device_remembers_its_counters(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    order(stage, "retire")
    stage.until(lambda: stage.device.stage is At.RESTING)
    stage.restart()

    assert stage.committed() == 2
    assert [one.counter for one in stage.parts.outbox.floors()] == [2]


def test_health_needs_a_scanner_that_answers(stage: Upgrading) -> None:
    good = stage.scanner.sighting
    stage.scanner.sighting = replace(good, status=DeviceStatus.NOT_READY)
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    stage.pass_s(300)
    assert not stage.bench.asked(CheckHealth)
    stage.scanner.sighting = good
    stage.reach(Phase.COMMITTED, 60)


def test_health_needs_an_online_that_was_acknowledged_after_the_new_start(stage: Upgrading) -> None:
    stage.bench.needs = Needs.RESTART
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    stage.server.silent.add("status")
    stage.until(lambda: stage.restarts == 1)
    stage.pass_s(300)
    assert stage.device.stage is At.GREETING
    assert not stage.bench.asked(CheckHealth)
    stage.server.silent.clear()
    stage.reach(Phase.COMMITTED, 600)


def test_a_version_that_does_not_prove_well_in_time_is_rolled_back(stage: Upgrading) -> None:
    stage.bench.needs = Needs.RESTART
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    stage.link.refuse = Loss.UNREACHABLE
    stage.until(lambda: stage.restarts == 1)
    begun = stage.clock.now
    stage.reach(Phase.FAILED, 700)

    assert (stage.clock.now - begun).total_seconds() == pytest.approx(600, abs=60)
    assert stage.bench.runs["firmware"] == 1
    stage.link.refuse = None
    stage.until(lambda: ("rolling-back", "unhealthy", 1) in stage.told, HOUR_S)
    assert stage.committed() == 0


def test_a_version_that_brings_the_agent_down_again_and_again_is_rolled_back(stage: Upgrading) -> None:
    stage.scanner.sighting = replace(stage.scanner.sighting, status=DeviceStatus.NOT_READY)
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    for _ in range(3):
        stage.restart()
        stage.turn()
        assert stage.firmware.phase is Phase.CHECKING
    stage.restart()
    stage.reach(Phase.FAILED)

    assert stage.firmware.why is Why.UNHEALTHY
    assert stage.bench.runs["firmware"] == 1


def test_an_installer_that_brings_the_agent_down_again_and_again_is_given_up(stage: Upgrading) -> None:
    stage.assign(release(), window=window(stage, 60, HOUR_S))
    stage.reach(Phase.STAGED)
    stage.until(lambda: stage.firmware.phase is Phase.INSTALLING)
    for _ in range(3):
        stage.restart()
        stage.device.step(stage.world().instant())
        assert stage.firmware.phase is Phase.INSTALLING
    stage.restart()
    stage.device.step(stage.world().instant())

    assert (stage.firmware.phase, stage.firmware.why) == (Phase.ROLLING_BACK, Why.INTERRUPTED)
    assert stage.firmware.attempts == 1


def test_an_assignment_waits_while_software_is_between_two_versions(stage: Upgrading) -> None:
    good = stage.scanner.sighting
    stage.scanner.sighting = replace(good, status=DeviceStatus.NOT_READY)
    first = stage.assign(release())
    stage.reach(Phase.CHECKING)
    second = stage.assign()
    stage.pass_s(5)
    assert stage.software.version == first
    third = stage.assign(release(counter=3, hashes=Hashes(sha256="A" * 43)))
    stage.pass_s(5)
    assert (stage.software.version, stage.software.waiting_version) == (first, third)
    assert second < third
    stage.scanner.sighting = good
    stage.until(lambda: stage.software.version == third)

    assert stage.committed() == 2
    assert stage.firmware.counter == 3


def test_an_assignment_that_waits_survives_a_crash(stage: Upgrading) -> None:
    good = stage.scanner.sighting
    stage.scanner.sighting = replace(good, status=DeviceStatus.NOT_READY)
    stage.assign(release())
    stage.reach(Phase.CHECKING)
    second = stage.assign()
    stage.until(lambda: stage.software.waiting)
    stage.restart()
    stage.scanner.sighting = good
    stage.until(lambda: stage.software.version == second)

    assert stage.committed() == 2
    assert stage.software.upgrades == ()


def test_an_outcome_for_a_target_that_was_replaced_counts_for_no_other(stage: Upgrading) -> None:
    stage.assign(release())
    stage.until(lambda: stage.bench.asked(FetchTarget))
    assert stage.firmware.phase is Phase.DOWNLOADING
    other = release(b"other", counter=3)
    stage.assign(other)  # before what was fetched is told
    for event in stage.link.poll(0):
        stage.device.on_event(event, stage.world().instant())
    assert stage.firmware.counter == 3
    stage.turn()

    assert stage.firmware.phase is Phase.ASSIGNED


def test_the_version_that_runs_stays_when_upgrades_are_lost_with_the_line(stage: Upgrading) -> None:
    stage.bench.fails[FetchTarget] = Why.DOWNLOAD
    stage.assign(release())
    stage.reach(Phase.FAILED)
    stage.link.cut()
    stage.bench.fails.clear()
    stage.reach(Phase.COMMITTED, HOUR_S)

    assert stage.committed() == 2


@pytest.mark.parametrize("fails", [{}, {CheckHealth: Why.UNHEALTHY}])
def test_a_host_that_never_reboots_does_not_keep_the_agent_starting_for_ever(
    stage: Upgrading, fails: dict[type, Why]
) -> None:
    stage.bench.needs, stage.bench.fails = Needs.REBOOT, fails
    stage.reboots = False
    stage.assign(release())
    stage.reach(Phase.FAILED)
    stage.until(lambda: stage.firmware.needs is Needs.NOTHING)
    stage.pass_s(2)

    assert stage.restarts < 10
    assert stage.told[-1][:2] == ("failed", "unhealthy")
    assert stage.bench.runs["firmware"] == 1


def staged_for_the_day_after_tomorrow(stage: Upgrading) -> None:
    stage.assign(release(), window=window(stage, 48 * HOUR_S, 72 * HOUR_S))
    stage.reach(Phase.STAGED)
    stage.clock.pass_s(47 * HOUR_S)
    stage.turn()
    stage.repository.now = stage.clock.now


def test_what_was_withdrawn_while_it_waited_for_its_window_is_not_installed(stage: Upgrading) -> None:
    staged_for_the_day_after_tomorrow(stage)
    stage.repository.publish()
    stage.publish()
    stage.reach(Phase.REFUSED, 2 * HOUR_S)
    stage.pass_s(2)

    assert [(phase, reason) for phase, reason, _ in stage.told][-3:] == [
        ("failed", "not-released"),
        ("assigned", None),
        ("refused", "not-released"),
    ]
    assert not stage.bench.asked(Install)


def test_what_is_still_released_when_its_window_comes_is_installed(stage: Upgrading) -> None:
    staged_for_the_day_after_tomorrow(stage)
    stage.repository.publish(target())
    stage.publish()
    stage.reach(Phase.COMMITTED, 2 * HOUR_S)

    assert len(stage.bench.asked(FetchTarget)) == 1


def test_freeze_nothing_is_installed_by_an_agreement_of_long_ago(stage: Upgrading) -> None:
    staged_for_the_day_after_tomorrow(stage)
    stage.reach(Phase.FAILED, 2 * HOUR_S)

    assert stage.firmware.why is Why.METADATA
    assert not stage.bench.asked(Install)
