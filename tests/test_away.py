"""A device that is online ten minutes a day: both ends real, the time programmed, every byte counted.

Thirty days of it are in ``make bench`` (bench_away).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_agent.outbox import DROPPED, THINNED, Limits, Outbox
from fleetward_agent.turn import AddReport, Change
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Loss
from fleetward_schemas.commands import Step
from fleetward_schemas.strict import read_object
from fleetward_server.commands import MOST_OPEN
from fleetward_server.problem import OperatorProblem
from fleetward_server.state import Command, Presence, Report
from fleetward_server.store import ReportFilter
from tests.joined import Joined

DAYS = 5
HOURS = 3600
ONLINE_S = 600
PERIOD_S = 120


class CountingOutbox(Outbox):
    """An outbox that remembers what was ever put into it, and how full it was."""

    def __init__(self, limits: Limits | None) -> None:
        super().__init__(None, limits)
        self.made: set[str] = set()
        self.fullest = (0, 0)

    def commit(self, changes: Sequence[Change]) -> int:
        gone = super().commit(changes)
        self.made |= {one.id for one in changes if isinstance(one, AddReport)}
        self.fullest = (max(self.fullest[0], self._rows), max(self.fullest[1], self._size_bytes))
        return gone


@dataclass
class Month:
    """What happened."""

    joined: Joined
    outbox: CountingOutbox
    lasting: list[Command] = field(default_factory=list)
    passing: list[Command] = field(default_factory=list)
    shown_online: int = 0

    def order(self, expires_in_s: int) -> Command:
        with self.joined.operator() as operator:
            return operator.send_command(self.joined.device.id, "collect-info", {}, expires_in_s, "")

    def day(self) -> None:
        """A day without the line but for ten minutes; orders come while it is away."""
        self.away(20 * HOURS)
        self.lasting.append(self.order(30 * HOURS))
        self.passing.append(self.order(2 * HOURS))
        self.away(24 * HOURS - 20 * HOURS - ONLINE_S)
        self.joined.link.refuse = None
        self.joined.pass_s(ONLINE_S, 5)
        self.cut()

    def cut(self) -> None:
        """Take the line away; the broker tells the will."""
        joined = self.joined
        for held in joined.link.lines.values():
            if held.dial.will is not None:
                joined.link.published.append((held.dial.will.topic, held.dial.will.payload))
        joined.link.cut()
        joined.link.refuse = Loss.UNREACHABLE
        joined.serve()

    def away(self, seconds: float) -> None:
        """Let the device be alone; the server does its duties every hour."""
        end = self.joined.clock.now + timedelta(seconds=seconds)
        while self.joined.clock.now < end:
            until = min(end, self.joined.clock.now + timedelta(hours=1))
            while self.joined.clock.now < until:
                self.joined.host.turn((until - self.joined.clock.now).total_seconds())
            self.joined.worker.plan_rotations(self.joined.config.rotation, self.joined.clock.now)
            self.joined.serve()
            device = self.joined.store.device(self.joined.device.id)
            self.shown_online += device is not None and device.presence is Presence.ONLINE

    def end(self) -> None:
        """Let it be online until nothing waits."""
        self.joined.link.refuse = None
        self.joined.until(lambda: self.joined.device.stage is At.WORKING, 900)
        self.joined.until(lambda: self.joined.parts.outbox.depth == 0, 3600)

    def reports(self, kind: str | None = None) -> list[Report]:
        return list(self.joined.store.reports(ReportFilter(self.joined.device.id, kind), limit=10**6))

    def step_of(self, command: Command) -> Step | None:
        found = self.joined.store.command(command.id)
        return None if found is None else found.step

    def done(self, command: Command) -> list[str]:
        """Return what the device said of an order, in order."""
        bodies = [read_object(one.body.encode()) for one in self.reports("result")]
        return [str(body["state"]) for body in bodies if body["commandId"] == command.id]


def begun(folder: Path, limits: Limits | None = None) -> Month:
    """Return a month whose device has enrolled and is away."""
    outbox = CountingOutbox(limits)
    joined = Joined(folder, telemetry_s=PERIOD_S, outbox=outbox)
    joined.until(lambda: joined.device.stage is At.WORKING)
    month = Month(joined, outbox)
    month.cut()
    return month


def lived(month: Month, days: int) -> str:
    """Live through it, check that nothing was lost and nothing doubled, and say what it cost."""
    for _ in range(days):
        month.day()
    month.end()

    stored = [one.id for one in month.reports()]
    assert set(stored) == month.outbox.made
    assert len(stored) == len(set(stored))
    assert month.outbox.counter(THINNED) == month.outbox.counter(DROPPED) == 0
    readings = sum(len(read_object(one.body.encode())["readings"]) for one in month.reports("telemetry"))
    assert abs(readings - days * 24 * HOURS // PERIOD_S) <= days

    assert {month.step_of(one) for one in month.lasting} == {Step.SUCCEEDED}
    # An order that comes twice is answered twice, and done once: each made one info.
    said = [month.done(one) for one in month.lasting]
    assert {(one[0], one[-1]) for one in said} == {("accepted", "succeeded")}
    assert {word for one in said for word in one} == {"accepted", "succeeded"}
    assert len(month.reports("info")) == days
    assert {month.step_of(one) for one in month.passing} == {Step.EXPIRED}
    assert all(month.done(one) == [] for one in month.passing)
    assert month.shown_online == 0
    return told(month, days, readings)


def told(month: Month, days: int, readings: int) -> str:
    """Say what it cost."""
    up, down = month.joined.bytes["up"], month.joined.bytes["down"]
    rows, size_bytes = month.outbox.fullest
    return (
        f"{days} days, online {ONLINE_S // 60} min a day, a reading each {PERIOD_S} s: {len(month.outbox.made)} reports"
        f" with {readings} readings, {up / days / 1024:.0f} KiB up and {down / days / 1024:.0f} KiB down a day, "
        f"{(up + down) / readings:.0f} bytes a reading; at most {rows} reports of {size_bytes / 1024:.0f} KiB waited"
    )


@pytest.fixture
def month(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Month]:
    found = begun(tmp_path, request.param)
    yield found
    found.joined.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("month", [None], indirect=True)
def test_every_report_is_stored_once_and_every_order_done_once_or_never(month: Month) -> None:
    print(lived(month, DAYS))


@pytest.mark.slow
@pytest.mark.parametrize("month", [Limits(rows=1000, size_bytes=64 * 1024)], indirect=True)
def test_with_little_room_the_caps_hold_and_what_was_given_up_is_said(month: Month) -> None:
    for _ in range(3):
        month.day()
    month.end()

    rows, size_bytes = month.outbox.fullest
    assert rows <= 1000
    assert size_bytes <= 64 * 1024
    stored = {one.id for one in month.reports()}
    assert len(month.outbox.made - stored) == month.outbox.counter(DROPPED)
    assert {month.step_of(one) for one in month.lasting} == {Step.SUCCEEDED}
    said = [read_object(one.body.encode()) for one in month.reports("alert")]
    readings = [one for report in month.reports("telemetry") for one in read_object(report.body.encode())["readings"]]
    thinned = month.outbox.counter(THINNED)
    assert sum(one["count"] for one in said if one["code"] == "outbox-full") == thinned > 0
    assert len(readings) + thinned >= 3 * 24 * HOURS // PERIOD_S - 9
    assert max(one["metrics"].get("outboxThinned", 0) for one in readings) == thinned


@pytest.mark.parametrize("month", [None], indirect=True)
def test_orders_for_a_device_that_is_away_pile_up_to_a_cap(month: Month) -> None:
    waiting = [month.order(HOURS) for _ in range(MOST_OPEN)]
    with pytest.raises(OperatorProblem, match="100 open commands"):
        month.order(HOURS)
    month.joined.clock.pass_s(2 * HOURS)
    month.joined.serve()
    assert {month.step_of(one) for one in waiting} == {Step.EXPIRED}
    assert month.order(HOURS)
