"""A broker that drops, delays, doubles, cuts short, misdelivers and plays back what it heard, for half an hour.

Both ends real, the time programmed, the wrongs drawn from a seed (``FLEETWARD_SEED`` plays another). Meanwhile the
device's interval holds the true time; afterwards nothing is lost, nothing stands twice, no order was done twice, and
the next one works. Source: README of schemas, "the broker may be hostile".
"""

import heapq
import itertools
import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_agent.walk import Stage as At
from fleetward_broker.line import LineId, Token
from fleetward_schemas import moment
from fleetward_schemas.commands import Step
from fleetward_server.authority import Authority
from fleetward_server.generations import own_anchors
from fleetward_server.state import Command
from fleetward_server.store import ReportFilter
from fleetward_server.worker import Worker
from tests.joined import Joined
from tests.test_away import CountingOutbox

SEED = int(os.environ.get("FLEETWARD_SEED", "20261127"))
SIEGE_S = 1800
WRONGS = {"pass": 60, "drop": 12, "double": 10, "delay": 10, "short": 3, "misdeliver": 5}
DELAYS_S = (0.5, 3, 20, 100, 900)
Message = tuple[str, bytes]


class HostileBroker(Joined):
    """Both ends, and between them a broker that is hostile while ``hostile``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.outbox = CountingOutbox(None)
        super().__init__(folder, outbox=self.outbox)
        self.hostile = False
        self.chance = random.Random(seed)
        self.heard: dict[str, list[Message]] = {"up": [], "down": []}
        self.later: list[tuple[float, int, str, Message]] = []
        self.numbers = itertools.count()

    def wronged(self, way: str, said: Message) -> Iterator[Message]:
        """Yield what becomes of a message; what is delayed comes from ``overdue``."""
        self.heard[way].append(said)
        (wrong,) = self.chance.choices(list(WRONGS), list(WRONGS.values())) if self.hostile else ("pass",)
        topic, raw = said
        if wrong == "delay":
            at = self.clock.now.timestamp() + self.chance.choice(DELAYS_S)
            heapq.heappush(self.later, (at, next(self.numbers), way, said))
        elif wrong == "short":
            yield topic, raw[: self.chance.randrange(len(raw))]
        elif wrong != "drop":
            yield from [said] * (self.chance.randint(2, 5) if wrong == "double" else 1)
        if wrong == "misdeliver":
            yield self.chance.choice(self.heard[way])[0], raw

    def overdue(self, way: str) -> Iterator[Message]:
        """Yield what was held back long enough, and what is played back."""
        now = self.clock.now.timestamp()
        due = [one for one in self.later if one[0] <= now and one[2] == way]
        self.later = [one for one in self.later if one not in due]
        heapq.heapify(self.later)
        yield from (said for _, _, _, said in due)
        if self.hostile and self.heard[way] and self.chance.random() < 0.2:
            yield from self.chance.choices(self.heard[way], k=3)

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        for where, raw in self.wronged("down", (topic, payload)):
            super().publish(line, where, raw, qos=qos)
        return Token(1)

    def serve(self) -> None:
        said = [*self.link.published]
        self.link.published.clear()
        self.link.published.extend(each for one in said for each in self.wronged("up", one))
        self.link.published.extend(self.overdue("up"))
        super().serve()
        for where, raw in self.overdue("down"):
            super().publish(LineId(0), where, raw)

    def turn(self, timeout_s: float = 1.0) -> None:
        if self.hostile and self.chance.random() < 0.005:
            self.link.cut()
        if self.hostile and self.chance.random() < 0.002:
            authority = Authority(self.config)
            anchors = own_anchors(self.config)
            self.worker = Worker(self.store, self, authority, self.worker.policy, anchors, self.clock.now)
        super().turn(timeout_s)
        clock, boot_us = self.device.session.clock, self.clock.boot_us
        now_us = (self.clock.now - moment.EPOCH) // timedelta(microseconds=1)
        assert clock.earliest_at(boot_us) <= now_us <= clock.latest_at(boot_us)

    def order(self) -> Command:
        with self.operator() as operator:
            return operator.send_command(self.device.id, "collect-info", {}, 3600, "")

    def step_of(self, command: Command) -> Step | None:
        found = self.store.command(command.id)
        return None if found is None else found.step

    def ids(self, kind: str | None = None) -> list[str]:
        return [one.id for one in self.store.reports(ReportFilter(self.device.id, kind), limit=10**6)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_half_an_hour_of_a_hostile_broker_loses_nothing_doubles_nothing_and_locks_nobody_out(
    tmp_path: Path, seed: int
) -> None:
    siege = HostileBroker(tmp_path, seed)
    siege.until(lambda: siege.device.stage is At.WORKING)
    siege.hostile = True
    orders = []
    for _ in range(6):
        orders.append(siege.order())
        siege.pass_s(SIEGE_S / 6)
    siege.hostile = False

    siege.until(lambda: siege.device.stage is At.WORKING, 900)
    orders.append(siege.order())
    siege.until(lambda: siege.step_of(orders[-1]) is Step.SUCCEEDED, 60)
    siege.until(lambda: siege.outbox.depth == 0, 900)
    stored = siege.ids()
    assert len(stored) == len(set(stored))
    assert set(stored) == siege.outbox.made
    assert len(siege.ids("info")) == len([one for one in orders if siege.step_of(one) is Step.SUCCEEDED])
    siege.store.close()
