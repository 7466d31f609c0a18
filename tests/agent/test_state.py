"""The state file is replaced whole or not at all, and a damaged one falls back to the generation before."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tinydb.table import Document

from fleetward_agent.state import FILE, Candidate, Gone, Kept, Pair, StateFile, StateProblem, Suffixes
from fleetward_schemas.clock import Saved

WHOLE = Kept(
    suffixes=Suffixes("a", "b", "c"),
    clock=Saved(1, 2, 3, 4, "boot"),
    candidate=Candidate("d", "t", "id", "hello", "nonce"),
    pair=Pair("d", "t", ("x", "y"), ("z",), "id"),
    gone=Gone("retired", 5),
    device_code="DC",
    telemetry_s=7,
    time_s=70,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = StateFile(tmp_path)
    state.save(WHOLE)
    state.save(replace(WHOLE, device_code="newer"))
    return tmp_path


@pytest.mark.parametrize("kept", [Kept(), WHOLE])
def test_what_is_saved_comes_back(tmp_path: Path, kept: Kept) -> None:
    StateFile(tmp_path).save(kept)

    assert StateFile(tmp_path).load() == kept


def test_a_newborn_has_an_empty_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "new").load() == Kept()


def test_memory_alone_works_too() -> None:
    state = StateFile(None)
    state.save(WHOLE)

    assert (state.load(), state.fell_back) == (WHOLE, False)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_file_falls_back_to_the_generation_before(folder: Path, damage: str) -> None:
    path = folder / FILE
    raw = path.read_bytes()
    damaged = {"cut": raw[:-9], "flip": raw.replace(b"newer", b"nower"), "empty": b"", "gone": None}[damage]
    path.unlink() if damaged is None else path.write_bytes(damaged)

    state = StateFile(folder)
    assert (state.load(), state.fell_back) == (WHOLE, True)


def test_a_damaged_file_never_becomes_the_backup(folder: Path) -> None:
    (folder / FILE).write_bytes(b"torn")
    state = StateFile(folder)
    state.save(replace(state.load(), device_code="after"))
    (folder / FILE).write_bytes(b"torn again")

    assert StateFile(folder).load().device_code == "DC"


def test_two_damaged_files_are_a_clear_error(folder: Path) -> None:
    (folder / FILE).write_bytes(b"torn")
    (folder / f"{FILE}.bak").write_bytes(b"torn")

    with pytest.raises(StateProblem, match="move both away"):
        StateFile(folder).load()


def test_a_state_of_another_version_is_a_clear_error(tmp_path: Path) -> None:
    state = StateFile(tmp_path)
    state._db.table("device").insert({"telemetry_s": "often"})

    with pytest.raises(StateProblem, match="telemetry_s"):
        state.load()


OLD = """{"suffixes":{"factory":"a","device":"b","unsynced":"c"},"clock":{"earliest_us":1,"latest_us":2,"boot_us":3,
"signer_us":4,"boot_id":"boot"},"candidate":{"device_key":"d","transport_key":"t","digital_id":"id","hello_id":"hello",
"nonce":"nonce"},"pair":{"device_key":"d","transport_key":"t","device_chain":["x","y"],"transport_chain":["z"],
"digital_id":"id"},"previous":null,"order":null,"doomed":[],"gone":{"reason":"retired","at_ms":5},"device_code":"DC",
"telemetry_s":7,"time_s":70,"carried":null,"carried_seq":0,"synced_ms":0,"refused_times":[],"encryption":[]}"""


def test_what_an_older_agent_wrote_down_is_read(tmp_path: Path) -> None:
    raw = json.dumps({"device": {"1": json.loads(OLD)}})
    wrapped = {"sha256": hashlib.sha256(raw.encode()).hexdigest(), "data": raw}
    (tmp_path / FILE).write_text(json.dumps(wrapped))

    assert StateFile(tmp_path).load() == WHOLE


def test_what_a_newer_version_added_keeps_nobody_from_going_back_to_this_one(tmp_path: Path) -> None:
    StateFile(tmp_path).save(WHOLE)
    file = StateFile(tmp_path)
    row = file._db.table("device").get(doc_id=1)
    assert isinstance(row, Document)
    added = {**row, "news": [1], "pair": {**row["pair"], "more": {"a": "b"}}}
    file._db.table("device").upsert(Document(added, doc_id=1))

    assert StateFile(tmp_path).load() == WHOLE


def test_leftovers_of_a_crash_are_swept_by_the_agent_alone(tmp_path: Path) -> None:
    leftover = tmp_path / f".{FILE}.77.tmp"
    leftover.write_bytes(b"half")
    state = StateFile(tmp_path)
    assert (state.load(), leftover.exists()) == (Kept(), True)

    state.sweep()
    assert not leftover.exists()


def test_the_file_is_nobody_elses_and_readable_by_people(folder: Path) -> None:
    assert (folder / FILE).stat().st_mode & 0o077 == 0
    assert "telemetry_s" in json.loads((folder / FILE).read_bytes())["data"]


WATCHED = """
import sys
from dataclasses import replace
from pathlib import Path
from fleetward_agent.state import FILE, StateFile
folder = Path(sys.argv[1])
sys.addaudithook(lambda event, _: event == "os.rename" and print((folder / FILE).exists()))
state = StateFile(folder)
kept = state.load()
for code in "first", "second":
    state.save(replace(kept, device_code=code))
"""


def test_whoever_looks_finds_a_state_at_every_moment_of_a_write(folder: Path) -> None:
    told = subprocess.run([sys.executable, "-c", WATCHED, str(folder)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True"] * 4
    (folder / FILE).write_bytes(b"torn")
    assert StateFile(folder).load().device_code == "first"
    assert sorted(one.name for one in folder.iterdir()) == [FILE, f"{FILE}.bak"]


def test_a_write_goes_on_where_one_ended_between_its_backup_and_its_end(folder: Path) -> None:
    (folder / f"{FILE}.bak").unlink()
    (folder / f"{FILE}.bak").hardlink_to(folder / FILE)
    state = StateFile(folder)
    state.save(replace(state.load(), device_code="after"))
    assert sorted(one.name for one in folder.iterdir()) == [FILE, f"{FILE}.bak"]
    (folder / FILE).write_bytes(b"torn")
    assert StateFile(folder).load().device_code == "newer"


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from fleetward_agent.state import StateFile
state = StateFile(Path(sys.argv[1]))
kept = state.load()
while True:
    kept = replace(kept, time_s=kept.time_s + 1)
    state.save(kept)
    print(kept.time_s, flush=True)
"""


def test_what_was_saved_survives_every_kill(tmp_path: Path) -> None:
    for more in (5, 17, 40):
        before = StateFile(tmp_path).load().time_s
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        told = next(number for number in map(int, writer.stdout) if number >= before + more)
        writer.kill()
        writer.communicate()

        assert StateFile(tmp_path).load().time_s >= told
