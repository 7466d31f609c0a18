"""Assignments: only the server's newest counts, it is written down whole, and what stays the same keeps its state."""

import pytest

from fleetward_agent.upgrade_effects import FetchTarget, Install
from fleetward_agent.walk import Stage as At
from fleetward_broker import profiles
from fleetward_schemas import moment
from fleetward_schemas.certificates import Unit
from fleetward_schemas.upgrade import AHEAD_MS, Assignment, Hashes, Phase, Why
from tests.agent.forging import leaf
from tests.agent.upgrading import Upgrading, release, target
from tests.world import Provider


@pytest.fixture
def stage(provider: Provider) -> Upgrading:
    return Upgrading(provider)


def refused(stage: Upgrading) -> list[str]:
    return [str(fields["code"]) for fields in stage.events("refused")]


def failing(stage: Upgrading) -> Upgrading:
    """A device whose download fails, and which waits to try again."""
    stage.bench.fails[FetchTarget] = Why.DOWNLOAD
    stage.assign(release())
    stage.reach(Phase.FAILED)
    return stage


def test_replay_an_assignment_older_than_the_last_is_refused(stage: Upgrading) -> None:
    version = stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.assign(version=version - 1)
    stage.pass_s(2)

    assert refused(stage) == ["replayed"]
    assert stage.software.version == version
    assert len(stage.software.upgrades) == 1


def test_replay_the_last_one_is_remembered_through_a_crash(stage: Upgrading) -> None:
    version = stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.restart()
    stage.until(lambda: stage.device.stage is At.WORKING)
    stage.assign(version=version - 1)
    stage.pass_s(2)

    assert refused(stage) == ["replayed"]


@pytest.mark.parametrize(("ahead_ms", "taken"), [(AHEAD_MS - 1000, True), (AHEAD_MS + 2000, False)])
def test_a_version_far_ahead_of_trusted_time_is_stale(stage: Upgrading, ahead_ms: int, taken: bool) -> None:
    version = moment.to_ms(stage.clock.now) + ahead_ms
    stage.assign(release(), version=version)
    stage.pass_s(2)

    assert (stage.software.version == version) is taken
    assert refused(stage) == ([] if taken else ["stale"])


def test_the_same_version_again_tells_every_state_again_and_changes_nothing(stage: Upgrading) -> None:
    version = stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.pass_s(2)
    before, told = stage.software, stage.told
    stage.assign(release(counter=9), version=version)
    stage.pass_s(2)

    assert stage.software == before
    assert stage.told == [*told, ("committed", None, 1)]


def test_a_release_that_stays_the_same_keeps_its_state_and_attempts(stage: Upgrading) -> None:
    failing(stage)
    before = stage.firmware
    stage.assign(release(url="https://files.example/moved"))
    stage.pass_s(1)

    assert stage.firmware.url == "https://files.example/moved"
    assert (stage.firmware.phase, stage.firmware.again_ms) == (Phase.FAILED, before.again_ms)


@pytest.mark.parametrize(
    "changes", [{"target": "acme/fw-3.bin"}, {"counter": 3}, {"hashes": Hashes(sha256="A" * 43)}, {"length": 3}]
)
def test_a_release_that_changed_begins_anew(stage: Upgrading, changes: dict[str, object]) -> None:
    failing(stage)
    stage.assign(release(**changes))
    stage.pass_s(0.2)

    assert stage.firmware.phase is not Phase.FAILED


def test_a_name_that_is_not_named_any_more_ends_where_it_stands(stage: Upgrading) -> None:
    failing(stage)
    fetched = len(stage.bench.asked(FetchTarget))
    stage.assign()
    stage.pass_s(7200)

    assert stage.software.upgrades == ()
    assert len(stage.bench.asked(FetchTarget)) == fetched


def test_a_refused_release_is_looked_at_again_with_a_newer_assignment(stage: Upgrading) -> None:
    stage.assign(release(counter=3))
    stage.reach(Phase.REFUSED)
    stage.repository.publish(target(counter=3))
    stage.publish()
    stage.pass_s(600)
    assert stage.firmware.phase is Phase.REFUSED
    stage.assign(release(counter=3))
    stage.reach(Phase.COMMITTED)


def test_a_stolen_server_signing_key_alone_installs_nothing(stage: Upgrading) -> None:
    """It may assign what it likes: what was never released by the offline keys is refused in every spelling."""
    image = b"malware"
    for forged in (release(image), release(image, counter=3), release(image, target="acme/fw-3.bin", counter=3)):
        stage.assign(forged)
        stage.until(lambda one=forged: stage.software.upgrades and stage.firmware.target == one.target)  # type: ignore[misc]
        stage.reach(Phase.REFUSED)
        assert stage.firmware.why in {Why.NOT_RELEASED, Why.MISMATCH}

    assert not stage.bench.asked(FetchTarget)
    stage.assign(release())
    stage.reach(Phase.COMMITTED)


def test_a_stolen_server_that_signs_a_repository_of_its_own_installs_nothing(stage: Upgrading) -> None:
    image = b"malware"
    stage.repository.keys = {
        role: keys if role in {"snapshot", "timestamp"} else [type(keys[0]).generate_ed25519()]
        for role, keys in stage.repository.keys.items()
    }
    stage.repository.publish(target(image, counter=3))
    stage.publish()
    stage.assign(release(image, counter=3))
    stage.reach(Phase.FAILED, 300)

    assert stage.firmware.why is Why.METADATA
    assert not stage.bench.asked(FetchTarget)


def test_stolen_release_keys_alone_target_no_device(stage: Upgrading) -> None:
    """They may release what they like: without the server's assignment no device reads it."""
    stage.repository.publish(target(b"malware", counter=9))
    stage.publish()
    stage.pass_s(3600)
    assert not stage.bench.done
    stage.assign(release())
    stage.reach(Phase.REFUSED)

    assert stage.firmware.why is Why.MISMATCH
    assert not stage.bench.asked(Install)


def test_an_assignment_signed_by_no_server_is_refused(stage: Upgrading) -> None:
    thief = leaf(stage, stage.id, Unit.DEVICE, profiles.TRANSPORT)
    body = Assignment(version=moment.to_ms(stage.clock.now), releases=[release()])
    stage.server.deliver(stage.server.draft(stage.id, "assignment", body), signer=thief)
    stage.pass_s(2)

    assert refused(stage) == ["wrong-server"]
    assert stage.software.upgrades == ()
    assert not stage.bench.done
