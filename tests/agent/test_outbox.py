"""The outbox keeps what must not be lost, gives up telemetry first, and commits a turn whole or not at all."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_agent.outbox import DROPPED, THINNED, Limits, Outbox, OutboxFull
from fleetward_agent.turn import AddReport, Count, DropReports, GrowReport, PutCommand, PutWindow, Sweep
from fleetward_agent.urgency import ALWAYS
from fleetward_schemas.commands import ResultReason, ResultState
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.moment import to_ms
from fleetward_schemas.replay import ReplayWindow

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY_MS = 86_400_000


def readings(*numbers: int) -> str:
    """Return the body of a telemetry report with these readings."""
    return json.dumps({"readings": [{"n": one} for one in numbers]}, separators=(",", ":"))


def numbers(outbox: Outbox) -> list[int]:
    """Return every reading that waits, oldest first."""
    bodies = [json.loads(one.body) for one in reversed(outbox.waiting(10**6)) if one.kind == "telemetry"]
    return [reading["n"] for body in bodies for reading in body["readings"]]


def report(number: int, kind: str = "telemetry", body: str = '{"readings":[1]}') -> AddReport:
    priority = ("result", "alert", "info", "telemetry").index(kind)
    return AddReport(f"{number:05d}", kind, body, priority, number)


def command(state: ResultState = ResultState.ACCEPTED, at_ms: int = 0, name: str = "c") -> PutCommand:
    return PutCommand(name, state, None, "collect-info", "{}", 10, at_ms)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(None, Limits(rows=3, size_bytes=1000))


def test_the_most_urgent_is_sent_first_and_telemetry_from_the_newest_back() -> None:
    outbox = Outbox(None)
    outbox.commit([report(1), report(5), report(3, "result"), report(2, "alert"), report(4, "result")])

    assert [one.id for one in outbox.waiting(9)] == ["00003", "00004", "00002", "00005", "00001"]
    assert [one.id for one in outbox.waiting(1, but={"00003"})] == ["00004"]
    assert [one.id for one in outbox.waiting(9, priorities=ALWAYS)] == ["00003", "00004", "00002"]


def test_when_full_telemetry_gives_way_and_is_counted(outbox: Outbox) -> None:
    outbox.commit([report(n) for n in range(3)])

    assert outbox.commit([report(3, "result"), report(4)]) == 2
    assert [one.id for one in outbox.waiting(2)] == ["00003", "00004"]
    assert (outbox.counter(DROPPED), outbox.counter(THINNED), outbox.depth) == (2, 2, 3)


def test_every_second_reading_of_the_oldest_half_goes_first() -> None:
    outbox = Outbox(None, Limits(size_bytes=500))
    outbox.commit([report(n, body=readings(*range(10 * n, 10 * n + 10))) for n in range(5)])

    assert numbers(outbox) == [0, 2, 4, 6, 8, *range(10, 50)]
    outbox.commit([report(5, body=readings(*range(50, 60)))])
    assert numbers(outbox) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, *range(30, 60)]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(200, 2000))
@settings(deadline=None)
def test_what_is_old_is_coarser_and_never_gone_before_what_is_older(sizes: list[int], most: int) -> None:
    outbox, next_one = Outbox(None, Limits(size_bytes=most)), 0
    for number, size in enumerate(sizes):
        outbox.commit([report(number, body=readings(*range(next_one, next_one + size)))])
        next_one += size

    kept = numbers(outbox)
    assert kept == sorted(set(kept))
    assert outbox._size_bytes <= most
    assert outbox._size_bytes == sum(len(one.body) for one in outbox.waiting(10**6))
    assert len(kept) + outbox.counter(THINNED) == next_one
    if len(kept) >= 20:
        # The newest half is denser than the oldest, which reaches back as far as anything does.
        half = len(kept) // 2
        assert kept[-1] - kept[half] <= kept[half] - kept[0] + 2


def test_telemetry_alone_grows_too_old() -> None:
    outbox = Outbox(None, Limits(telemetry_days=30))
    old = to_ms(NOW) - 31 * DAY_MS
    outbox.commit([replace(report(n, kind), created_ms=old) for n, kind in enumerate(("result", "alert", "telemetry"))])
    outbox.commit([replace(report(9), created_ms=old + 2 * DAY_MS), Sweep(NOW)])

    assert [one.id for one in outbox.waiting(9)] == ["00000", "00001", "00009"]
    assert outbox.counter(DROPPED) == 1


def test_results_and_alerts_are_never_given_up(outbox: Outbox) -> None:
    outbox.commit([report(1, "result"), report(2, "alert"), report(3, "info")])

    with pytest.raises(OutboxFull):
        outbox.commit([command(), report(4, "result")])
    assert outbox.command("c") is None
    assert [one.id for one in outbox.waiting(9)] == ["00001", "00002", "00003"]


def test_there_is_room_again_after_an_ack(outbox: Outbox) -> None:
    outbox.commit([report(n, "result") for n in range(3)])
    outbox.commit([DropReports(("00000", "unknown"))])

    assert outbox.commit([report(3, "result")]) == 0
    assert outbox.depth == 3


def test_the_same_report_is_kept_once(outbox: Outbox) -> None:
    outbox.commit([report(1), report(1)])

    assert outbox.depth == len(outbox.waiting(9)) == 1


def test_a_report_grows_and_its_size_with_it(outbox: Outbox) -> None:
    outbox.commit([report(1), report(2)])
    outbox.commit([GrowReport("00002", readings(*range(110)))])

    assert outbox._size_bytes == sum(len(one.body) for one in outbox.waiting(9)) <= 1000
    assert outbox.counter(THINNED) == 56


def test_a_turn_that_fails_leaves_nothing(outbox: Outbox) -> None:
    with pytest.raises(LocalMistake):
        outbox.commit([report(1), "no change of ours"])  # type: ignore[list-item]
    outbox.commit([report(2)])

    assert [one.id for one in outbox.waiting(9)] == ["00002"]


def test_commands_windows_and_counters_come_back_as_they_were(tmp_path: Path) -> None:
    window, row = ReplayWindow(10**12, (1 << 127) | 5), command()
    outbox = Outbox(tmp_path / "o.db")
    refused = PutCommand("d", ResultState.REFUSED, ResultReason.BAD_PARAMS, "x", '{"a":1}', 3, 4)
    outbox.commit([row, refused, PutWindow("s", "t", window, NOW), Count("n", 2), Count("n")])
    outbox.close()

    again = Outbox(tmp_path / "o.db")
    assert (again.command("c"), again.command("d"), again.open_commands()) == (row, refused, [row])
    assert (dict(again.windows()), again.counter("n")) == ({("s", "t"): window}, 3)


def test_final_commands_are_kept_ninety_days_and_open_ones_for_ever(outbox: Outbox) -> None:
    now_ms = to_ms(NOW)
    fresh = command(ResultState.SUCCEEDED, now_ms - 89 * DAY_MS, "fresh")
    old = command(ResultState.SUCCEEDED, now_ms - 91 * DAY_MS, "old")
    outbox.commit([fresh, old, command(at_ms=0), Sweep(NOW)])

    assert [outbox.command(name) for name in ("fresh", "old", "c")] == [fresh, None, command(at_ms=0)]


def test_windows_of_ended_certificates_are_swept(outbox: Outbox) -> None:
    ended, running = (PutWindow(s, "t", ReplayWindow(1, 1), NOW + timedelta(days=d)) for s, d in (("a", -1), ("b", 1)))
    outbox.commit([ended, running, Sweep(NOW)])

    assert list(outbox.windows()) == [("b", "t")]


def test_the_file_is_nobody_elses(tmp_path: Path) -> None:
    Outbox(tmp_path / "o.db").close()

    assert (tmp_path / "o.db").stat().st_mode & 0o077 == 0


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db")

    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_locked_database_is_an_error_and_no_loss(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", patience_s=0.05)
    with sqlite3.connect(tmp_path / "o.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            outbox.commit([report(1)])
        other.execute("ROLLBACK")
    other.close()

    assert outbox.commit([report(1)]) == 0
    assert outbox.depth == 1


@pytest.mark.parametrize("spoiled", [b"no database" * 100, None])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, spoiled: bytes | None) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(path)
    outbox.commit([report(number) for number in range(50)])
    outbox.close()
    path.write_bytes(spoiled or path.read_bytes()[:8192])
    with pytest.raises(sqlite3.DatabaseError, match=r"o\.db: .* move it away"):
        Outbox(path)
    path.unlink()
    assert Outbox(path).depth == 0


WRITER = """
import sys
from pathlib import Path
from fleetward_agent.outbox import Outbox
from fleetward_agent.turn import AddReport, Count
outbox = Outbox(Path(sys.argv[1]))
number = outbox.counter("n")
while True:
    number += 1
    outbox.commit([AddReport(f"{number:08d}", "telemetry", "{}", 3, 0), Count("n")])
    print(number, flush=True)
"""


def test_what_was_committed_survives_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    for last in (20, 57, 133):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        told = next(number for number in map(int, writer.stdout) if number >= last)
        writer.kill()
        writer.communicate()
        outbox = Outbox(path)
        kept, counted = {one.id for one in outbox.waiting(10_000)}, outbox.counter("n")
        outbox.close()

        assert {f"{n:08d}" for n in range(1, told + 1)} <= kept
        assert len(kept) == counted
