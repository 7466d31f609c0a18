"""A key that nothing remembers is destroyed at the next start; one that anything remembers stays."""

from dataclasses import replace
from pathlib import Path

from fleetward_agent.outbox import Outbox
from fleetward_agent.parts import Parts
from fleetward_agent.state import Candidate, Kept, Pair, StateFile
from fleetward_agent.walk import Stage as At
from fleetward_schemas.jws import Alg
from tests.world import FakeScanner, MemoryKeys, Provider, Stage


def names_of(stage: Stage) -> set[str]:
    pair = stage.device.session.kept.pair
    assert pair is not None
    return {pair.device_key, pair.transport_key}


def test_a_key_that_a_crash_left_before_it_was_written_down_is_destroyed_at_the_start(working: Stage) -> None:
    working.keys.make("device-stray", Alg.EDDSA)
    working.pass_s(60)
    assert "device-stray" in working.keys.names()

    working.start()
    working.until(lambda: working.device.stage is At.WORKING)
    working.pass_s(60)

    assert working.keys.names() == names_of(working)


def test_keys_of_an_enrolment_that_a_crash_cut_short_stay(stage: Stage) -> None:
    stage.until(lambda: len(stage.keys.names()) == 2, 60)
    made = stage.keys.names()
    stage.start()
    stage.until(lambda: stage.device.stage is At.WORKING)
    stage.pass_s(60)

    assert stage.keys.names() == made == names_of(stage)


def test_a_store_that_cannot_be_looked_at_is_looked_at_again(working: Stage) -> None:
    working.keys.make("device-stray", Alg.EDDSA)
    working.start()
    working.keys.broken = True
    working.pass_s(30)
    assert "device-stray" in working.keys.kept

    working.keys.broken = False
    working.until(lambda: "device-stray" not in working.keys.kept, 60)


def test_after_a_fall_back_to_the_backup_nothing_is_taken_for_a_stray(provider: Provider, tmp_path: Path) -> None:
    scanner, keys = FakeScanner(provider.origin().digital_id), MemoryKeys()
    keys.make("device-newer-than-the-backup", Alg.EDDSA)
    written = StateFile(tmp_path)
    written.save(Kept())
    written.save(replace(Kept(), telemetry_s=31))
    (tmp_path / "state.json").write_bytes(b"torn")
    stage = Stage(provider, parts=Parts(keys, scanner, StateFile(tmp_path), Outbox(None)))
    stage.until(lambda: stage.device.stage is At.WORKING)

    assert stage.events("state-from-backup")
    assert "device-newer-than-the-backup" in keys.kept


def test_every_name_in_what_is_kept_is_among_its_texts() -> None:
    pair = Pair("device-1", "transport-1", ("c",), ("c",), "id")
    kept = Kept(pair=pair, candidate=Candidate("device-2", "transport-2", "id"))

    assert {"device-1", "transport-1", "device-2", "transport-2"} <= kept.texts()
    assert "device-3" not in kept.texts()
