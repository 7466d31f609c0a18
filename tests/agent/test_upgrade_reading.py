"""Reading the repository over the broker: by name, only what is wanted, and never for ever."""

from collections.abc import Callable

import pytest

from fleetward_agent.upgrade_effects import FetchTarget, ReadRelease
from fleetward_schemas.topics import release as topic_of
from fleetward_schemas.upgrade import Phase, Why
from tests.agent.upgrading import Upgrading, release, target
from tests.repository import Repository, new_key
from tests.world import Provider


@pytest.fixture
def stage(provider: Provider) -> Upgrading:
    return Upgrading(provider)


@pytest.fixture
def bare(provider: Provider) -> Upgrading:
    """Nothing of the repository is on the broker."""
    return Upgrading(provider, publish=False)


def listened(stage: Upgrading) -> set[str]:
    return {topic.rpartition("/")[2] for line in stage.link.lines.values() for topic in line.topics}


def seconds(stage: Upgrading, what: Callable[[], object]) -> float:
    begun = stage.clock.now
    stage.until(what, 300)
    return (stage.clock.now - begun).total_seconds()


def test_root_and_timestamp_are_asked_for_together_and_left_when_they_came(bare: Upgrading) -> None:
    bare.assign(release())
    bare.until(lambda: listened(bare))
    assert listened(bare) == {"2.root", "timestamp"}
    bare.publish("timestamp")
    bare.until(lambda: "timestamp" not in listened(bare))
    assert listened(bare) == {"2.root"}
    assert seconds(bare, lambda: "2.root" not in listened(bare)) == pytest.approx(2, abs=1.1)
    assert seconds(bare, lambda: listened(bare) == {"1.snapshot"}) <= 1
    bare.publish()
    bare.reach(Phase.COMMITTED)

    assert listened(bare) == set()


def test_a_next_root_that_comes_is_followed(stage: Upgrading) -> None:
    before = stage.repository.keys["root"]
    stage.repository.keys = {role: [new_key()] for role in stage.repository.keys}
    stage.repository.rotate(before)
    stage.repository.publish(target(version="2.1"))
    stage.publish()
    stage.assign(release())
    stage.reach(Phase.COMMITTED)

    assert stage.software.floor("firmware").version == "2.1"


def test_freeze_a_broker_that_gives_no_timestamp_ends_as_failed_and_is_asked_again(bare: Upgrading) -> None:
    bare.assign(release())
    assert (
        60
        <= seconds(bare, lambda: (bare.software.named("firmware") or 0) and bare.firmware.phase is Phase.FAILED)
        < 140
    )
    assert bare.firmware.why is Why.METADATA
    assert listened(bare) == set()
    bare.publish()
    bare.reach(Phase.COMMITTED)


def test_a_file_that_comes_within_thirty_seconds_counts(bare: Upgrading) -> None:
    bare.assign(release())
    bare.until(lambda: listened(bare))
    bare.pass_s(25)
    bare.publish()
    bare.reach(Phase.COMMITTED, 30)

    assert not bare.events("release-odd")


def test_slow_retrieval_a_broker_that_gives_each_file_late_does_not_keep_a_device_for_ever(bare: Upgrading) -> None:
    def drip() -> bool:
        bare.pass_s(25)
        for file in [one for one in listened(bare) if one.endswith(".root")]:
            bare.publish(file)
        return bare.firmware.phase is Phase.FAILED

    for _ in range(60):
        bare.repository.rotate()
    bare.assign(release())
    bare.pass_s(1)
    bare.until(drip, 700)

    assert bare.firmware.why is Why.METADATA
    assert len(bare.bench.done) > 10


def test_a_set_that_does_not_fit_is_read_again_until_it_does(stage: Upgrading) -> None:
    stage.repository.publish(target(version="2.1"))
    stage.publish("timestamp", "2.snapshot", "2.targets")
    stage.put_file(stage.repository.bin, stage.repository.files[stage.repository.bin.replace("2.", "1.")])
    stage.assign(release())
    stage.until(lambda: stage.events("release-odd"))
    stage.publish()
    stage.reach(Phase.COMMITTED, 60)

    assert stage.software.floor("firmware").version == "2.1"


def test_mix_and_match_a_set_that_never_fits_is_told_after_a_minute(stage: Upgrading) -> None:
    stranger = Repository(stage.clock.now)
    stranger.publish(target())
    stage.put_file("1.targets", stranger.files["1.targets"])
    stage.assign(release())
    assert 60 <= seconds(stage, lambda: stage.software.upgrades and stage.firmware.phase is Phase.FAILED) < 90
    stage.pass_s(2)

    assert ("failed", "metadata", 0) in stage.told
    assert not stage.bench.asked(FetchTarget)


def test_rollback_retained_copies_of_an_older_set_are_refused_once_a_newer_was_read(stage: Upgrading) -> None:
    before = dict(stage.repository.files)
    stage.repository.publish(target())
    stage.publish()
    stage.assign(release())
    stage.reach(Phase.COMMITTED)
    stage.repository.files = before
    stage.publish()
    stage.assign(release(counter=3))
    stage.reach(Phase.FAILED)

    assert stage.firmware.why is Why.METADATA


def test_freeze_a_timestamp_that_expired_in_trusted_time_is_refused(stage: Upgrading) -> None:
    stage.pass_s(25 * 3600)
    stage.assign(release())
    stage.reach(Phase.FAILED)
    assert stage.firmware.why is Why.METADATA
    stage.repository.now = stage.clock.now
    stage.repository.publish(target())
    stage.publish()
    stage.reach(Phase.COMMITTED)


def test_endless_data_files_nobody_asked_for_are_left_alone_and_no_longer_listened_to(stage: Upgrading) -> None:
    (line,) = stage.link.lines.values()
    line.topics.add(topic_of("7.targets"))  # left from before, in the broker's kept session
    stage.put_file("7.targets", b"x" * 1000)
    stage.pass_s(2)

    assert stage.events("release-file-unasked")
    assert stage.device.session.work.reading is None
    assert listened(stage) == set()


def test_endless_data_a_file_given_again_and_again_is_held_once(bare: Upgrading) -> None:
    bare.assign(release())
    bare.until(lambda: listened(bare))
    bare.publish("timestamp")
    for _ in range(5):
        bare.publish("timestamp")
        bare.turn(0)

    reading = bare.device.session.work.reading
    assert reading is not None
    assert list(reading.files) == ["timestamp"]


def test_bytes_are_forgotten_once_the_release_is_agreed(stage: Upgrading) -> None:
    stage.assign(release())
    stage.reach(Phase.DOWNLOADING)

    assert stage.device.session.work.reading is None


def test_a_lost_line_begins_to_read_anew_on_the_next(bare: Upgrading) -> None:
    bare.assign(release())
    bare.until(lambda: listened(bare))
    bare.link.cut()
    bare.pass_s(60)
    assert listened(bare) == {"2.root", "timestamp"}
    bare.publish()
    bare.reach(Phase.COMMITTED)

    assert listened(bare) == set()


def test_what_was_listened_for_when_the_agent_crashed_is_left_after_it(bare: Upgrading) -> None:
    bare.assign(release())
    bare.until(lambda: listened(bare))
    bare.assign()
    bare.link.cut()
    bare.start()
    bare.pass_s(60)
    assert listened(bare) == {"2.root", "timestamp"}  # the broker remembers
    bare.publish("timestamp")
    bare.pass_s(2)

    assert listened(bare) == {"2.root"}


def test_without_a_first_root_every_release_is_refused_and_nothing_read(provider: Provider) -> None:
    stage = Upgrading(provider, root=False)
    stage.assign(release())
    stage.reach(Phase.REFUSED)

    assert stage.firmware.why is Why.NO_RELEASES
    assert listened(stage) == set()
    assert [type(one) for one in stage.bench.done] == [ReadRelease]
