"""A running server's duties with the repository: told at a pace, said anew in time, and troubles told once."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from fleetward_broker.line import LineId, Token
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES
from fleetward_schemas.topics import release
from fleetward_server.config import load
from fleetward_server.ending import release_warnings
from fleetward_server.releases import online
from fleetward_server.releases.duty import BURST, FILES_PER_S, ReleaseDuty
from fleetward_server.releases.files import MOST_BYTES
from fleetward_server.releases.places import TOLD
from fleetward_server.releases.retained import GRACE, Next
from fleetward_server.releases.shelf import open_repository
from tests.server.releaser import Maker
from tests.server.test_worker import Bench

SEAL = "seal"


class Line:
    """Takes what is published, so much as it may, and says at once that it came."""

    def __init__(self, duty: ReleaseDuty) -> None:
        self.duty, self.came, self.tokens, self.takes = duty, list[Next](), count(1), True

    def publish(self, what: Next) -> Token | None:
        if not self.takes:
            return None
        self.came.append(what)
        return Token(next(self.tokens))

    def run(self, maker: Maker, seconds: float, began: float = 0.0) -> list[str]:
        """Let so long go by, in turns of 0.2 s; return what came."""
        before = len(self.came)
        for turn in range(int(seconds * 5)):
            monotonic = began + turn / 5
            self.duty.look(SEAL, maker.now, monotonic, may_renew=True)
            sent = len(self.came)
            self.duty.send(self.publish, maker.now, monotonic)
            for number in range(sent, len(self.came)):
                self.duty.delivered(Token(number + 1))
        return [one.file for one in self.came[before:]]


@pytest.fixture
def line(maker: Maker) -> Line:
    return Line(ReleaseDuty(maker.config))


def test_the_set_goes_out_at_a_pace_that_leaves_room_for_devices(maker, line):
    first = line.run(maker, 1.0)
    assert len(first) <= BURST + FILES_PER_S
    rest = line.run(maker, 10.0, 1.0)
    assert [*first, *rest] == list(open_repository(maker.provider).files)


def test_a_release_is_published_while_serving(maker, line):
    line.run(maker, 10.0)
    path = maker.release()
    whole = open_repository(maker.provider)
    role = whole.offline.bin_of(path)
    wanted = [f"2.{role}", f"{online.numbers(whole).snapshot}.snapshot", "timestamp"]
    assert line.run(maker, 3.0, 10.0) == wanted


def test_what_was_superseded_is_cleared_also_by_a_server_that_was_started_since(maker, line):
    line.run(maker, 10.0)
    before = open_repository(maker.provider).files
    maker.release()
    line.run(maker, 3.0, 10.0)
    old = set(before) - set(open_repository(maker.provider).files)
    maker.now += GRACE
    again = Line(ReleaseDuty(maker.config))
    again.run(maker, 12.0)
    assert {one.file for one in again.came if one.raw is None} == old
    assert len(old) == 2
    assert not old & set((maker.provider / "releases" / TOLD).read_text().split('"'))


def test_a_line_that_takes_nothing_loses_nothing(maker, line):
    line.takes = False
    assert line.run(maker, 3.0) == []
    line.takes = True
    assert line.run(maker, 10.0, 3.0) == list(open_repository(maker.provider).files)


def test_without_a_repository_there_is_nothing_to_do_until_there_is_one(maker, line):
    folder = maker.provider / "releases"
    folder.rename(maker.folder / "away")
    assert line.run(maker, 3.0) == []
    assert line.duty.warnings == ()
    (maker.folder / "away").rename(folder)
    assert len(line.run(maker, 10.0, 3.0)) == 260


@pytest.mark.parametrize(("known", "said"), [(True, True), (False, False)])
def test_roles_are_said_anew_only_while_the_time_is_known(maker, known, said):
    duty, before = ReleaseDuty(maker.config), online.numbers(open_repository(maker.provider))
    duty.look(SEAL, maker.now + timedelta(hours=13), 0.0, may_renew=known)
    assert (online.numbers(open_repository(maker.provider)) != before) is said


def test_a_set_that_does_not_hold_is_told_once_and_what_was_there_goes_on(maker, line, caplog):
    line.run(maker, 10.0)
    path = maker.provider / "releases" / "metadata" / "timestamp.json"
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good.replace(b'"version":', b'"version":9'))
    with caplog.at_level(logging.ERROR):
        assert line.run(maker, 3.0, 10.0) == []
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
    assert "timestamp" in line.duty.warnings[0]
    path.unlink()
    path.write_bytes(good)
    line.run(maker, 3.0, 13.0)
    assert line.duty.warnings == ()


def test_online_keys_that_are_away_are_told_and_tried_again(maker):
    duty, later = ReleaseDuty(maker.config), maker.now + timedelta(hours=13)
    key = maker.provider / "releases" / "keys" / "timestamp.key.pem"
    key.rename(key.with_suffix(".away"))
    assert duty.look(SEAL, later, 0.0, may_renew=True)
    assert "timestamp.key.pem" in duty.warnings[0]
    key.with_suffix(".away").rename(key)
    assert duty.look(SEAL, later, 100.0, may_renew=True)
    assert duty.warnings == ()
    assert open_repository(maker.provider).ends()["timestamp"] > later + timedelta(hours=23)


def test_an_operator_is_warned_of_what_somebody_has_to_sign(maker):
    assert release_warnings(maker.config, maker.now) == ()
    later = release_warnings(maker.config, maker.now + timedelta(days=61))
    assert any("bins" in one and "offline keys" in one for one in later)
    assert not any("root" in one for one in later)


def test_the_longest_file_fits_in_an_envelope(bench: Bench, provider: Path) -> None:
    """With room for a provider of a longer name: it stands three times in certificates and digital ID."""
    assert bench.worker.tell_release(LineId(1), "1.bin-00", b"m" * MOST_BYTES, bench.now) is not None
    topic, sealed = bench.link.sent[-1]
    assert topic == release("1.bin-00")
    assert len(sealed) < MAX_ENVELOPE_BYTES - 2048


def test_a_release_is_readable_once_the_broker_has_all_of_it(maker):
    duty, tokens = ReleaseDuty(maker.config), count(1)
    on_the_way = []

    def publish(_):
        on_the_way.append(Token(next(tokens)))
        return on_the_way[-1]

    for counter in (7, 8):
        maker.release(counter)
        assert not duty.readable
        duty.look("seal", maker.now, 1000 * counter, may_renew=True)
        for second in range(60):
            duty.send(publish, maker.now, 1000 * counter + second)
            assert not on_the_way or not duty.readable
            while on_the_way:
                duty.delivered(on_the_way.pop())
        assert duty.readable


def test_without_a_repository_nothing_waits_for_one(provider, tmp_path):
    assert ReleaseDuty(replace(load(provider), folder=tmp_path)).readable
