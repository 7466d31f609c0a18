"""kill -9, sixty times, at times drawn from a seed: every report is stored exactly once, in its sender's own order.

The oracle is the senders' own journal: a trigger in each outbox writes down every report in the transaction that
makes it. ``FLEETWARD_SEED`` replays a run.
"""

import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from fleetward_sandbox.fleet import provisioned
from tests.live.house import House, alive, started

pytestmark = [pytest.mark.live, pytest.mark.slow]
DEVICES = 20
KILLS_EACH = 20
REPORTS = 1000
SEED = int(os.environ.get("FLEETWARD_SEED", "20261124"))
JOURNAL = """
create table if not exists journal (number integer primary key autoincrement, id text not null unique);
create trigger if not exists keep_journal after insert on outbox begin
  insert or ignore into journal (id) values (new.id);
end;
"""


class Senders:
    """The simulated fleet as one process that can be killed."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        words = ("simulate", "--dir", str(self.house.folder), "--devices", str(DEVICES))
        return started(self.house.home / "simulate.log", "fleetward_server", *words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def folders(self) -> list[Path]:
        return provisioned(self.house.folder / "sandbox" / "devices")


def outbox(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "state" / "outbox.db", timeout=30)


def ids(folder: Path, query: str) -> list[str]:
    connection = outbox(folder)
    try:
        return [row[0] for row in connection.execute(query)]
    finally:
        connection.close()


def journal(folder: Path) -> list[str]:
    return ids(folder, "select id from journal order by number")


def keep_journals(senders: Senders) -> None:
    for folder in senders.folders():
        connection = outbox(folder)
        connection.executescript(JOURNAL)
        connection.close()


def written(senders: Senders) -> int:
    return sum(len(journal(folder)) for folder in senders.folders())


@pytest.mark.timeout(1200)
def test_sixty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with House(tmp_path) as house:
        senders = Senders(house)
        house.wait(lambda: all_reported(house), "all report")
        senders.stop()
        keep_journals(senders)
        senders.process = senders.start()
        kills = ["server", "broker", "senders"] * KILLS_EACH
        chance.shuffle(kills)
        for part in kills:
            wait_for_part(house, part)
            moment = time.monotonic() + chance.uniform(0.2, 1.6)
            house.wait(lambda: time.monotonic() >= moment, "the drawn moment")  # noqa: B023 - called at once
            senders.kill() if part == "senders" else house.kill(part)
        house.wait(lambda: written(senders) >= REPORTS, f"{REPORTS} reports are written", 300)
        house.wait(lambda: settled(house, senders), "what was written is stored", 300)
        senders.stop()

        for folder in senders.folders():
            check(house, folder)
        print(f"\n{len(kills)} kills (seed {SEED}), {written(senders)} reports, each stored once and in order")


def all_reported(house: House) -> bool:
    devices = house.all_devices()
    return len(devices) == DEVICES and all(house.reports(device.id) for device in devices)


def wait_for_part(house: House, part: str) -> None:
    """A part is killed while it runs, not while it is already dead."""
    if part != "senders":
        house.wait(lambda: part in house.found() and alive(int(house.found()[part])), f"{part} runs")


def settled(house: House, senders: Senders) -> bool:
    """Everything written a while ago is stored; the newest are still on their way."""
    return all(len(journal(f)) - len(set(journal(f)) & stored(house, f)) <= 3 for f in senders.folders())


def stored(house: House, folder: Path) -> set[str]:
    return {report.id for report in house.reports(folder.name, None)}


def check(house: House, folder: Path) -> None:
    """Stored or still waiting, nothing else; once; in the order in which the sender wrote them."""
    wrote, waiting = journal(folder), ids(folder, "select id from outbox")
    kept = [report.id for report in house.reports(folder.name, None)]

    assert len(kept) == len(set(kept))
    assert set(wrote) <= set(kept) | set(waiting)
    known = set(wrote)
    assert [one for one in kept if one in known] == [one for one in wrote if one in set(kept)]
