"""The loop: one link, one thread, one device or thousands. Only here the clock is read and the world is touched.

Source: deploy/decisions/0001 "One concurrency style".
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable

from fleetward_agent.device import Device
from fleetward_agent.instant import SECOND_US
from fleetward_agent.pool import POOL, Pool
from fleetward_agent.upgrade_effects import Needs
from fleetward_agent.world import World
from fleetward_broker.line import Event, LineId, Link, Readable
from fleetward_schemas.presence import StatusReason

__all__ = ["Host", "World"]

BUDGET_US = 250_000
BREATH_US = 1000
"""Between two steps of one device, so that the link is always asked in between."""


class Host:
    """Drives devices over one link; ``run`` for a program, ``turn`` for whoever has a loop of their own."""

    def __init__(self, link: Link, devices: Iterable[Device], world: World) -> None:
        """Begin every device.

        Raises:
            StateProblem, OSError, sqlite3.Error: what a device kept cannot be used; see ``Device.begin``.
        """
        self._link = link
        self._world = world
        self._lines: dict[LineId, Device] = {}
        self._devices: list[Device] = []
        self._numbers = itertools.count()
        self._due: list[tuple[int, int, Device]] = []
        self._planned: dict[Device, int] = {}
        self._events: deque[Event] = deque()
        self._heeded: dict[str, Callable[[], None]] = {}
        self._leaving: list[Device] = []
        self._pool: Pool | None = None
        self._at_work: dict[int, Device] = {}
        for device in devices:
            self.add(device)

    def add(self, device: Device) -> None:
        """Begin one more device."""
        device.begin(self._link, self._world, self._lines)
        self._devices.append(device)
        self._plan(device, 0)

    def remove(self, device: Device, reason: StatusReason) -> None:
        """Have one device say goodbye; it is held until its line is gone."""
        device.shut(self._world.instant(), reason)
        self._leaving.append(device)
        self._forget_closed()

    def holds(self, device: Device) -> bool:
        """Say whether a device still belongs here."""
        return device in self._devices

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that belong here and are not leaving."""
        return tuple(one for one in self._devices if not one.shutting)

    @property
    def wants(self) -> Needs | None:
        """What a device's upgrade needs of whoever runs this: a new start of the process, or of the host."""
        wanted = {one.slow.wants for one in self._devices} - {None, Needs.NOTHING}
        return max(wanted, key=lambda one: one is Needs.REBOOT, default=None)

    def heed(self, tag: str, call: Callable[[], None]) -> None:
        """Make ``call`` whenever the link tells that what it watches under ``tag`` is readable."""
        self._heeded[tag] = call

    def run(self, until: Callable[[], bool], timeout_s: float = 0.5) -> None:
        """Turn until told to stop."""
        while not until():
            self.turn(timeout_s)

    def turn(self, timeout_s: float) -> None:
        """Wait for events or for what is due, at most ``timeout_s``, and do what follows, for a quarter of a second.

        What is left then waits for the next turn: a thousand devices that make keys at once must not keep the link
        from its pings, nor a time answer from being read in time.
        """
        self._events.extend(self._link.poll(0.0 if self._events else self._wait_s(timeout_s)))
        until_us = self._world.boot_us() + BUDGET_US
        self._take_work()
        while self._events and self._world.boot_us() < until_us:
            self._hear(self._events.popleft())
        while (device := self._next_due()) is not None:
            self._step(device)
            if self._world.boot_us() >= until_us:
                break
        self._forget_closed()

    def _forget_closed(self) -> None:
        for device in [one for one in self._leaving if one.closed and id(one) not in self._at_work]:
            self._leaving.remove(device)
            self._devices.remove(device)
            self._planned.pop(device, None)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Readable):
            if (call := self._heeded.get(event.tag)) is not None:
                call()
        elif (device := self._lines.get(event.line)) is not None:
            device.on_event(event, self._world.instant())
            self._give_work(device)
            self._plan(device, 0)

    def _step(self, device: Device) -> None:
        device.step(self._world.instant())
        self._give_work(device)
        now = self._world.boot_us()
        self._plan(device, max(device.due_us(now), now + BREATH_US))

    def _give_work(self, device: Device) -> None:
        """Begin a device's slow work, one piece at a time."""
        if id(device) in self._at_work or device.shutting or (job := device.next_job()) is None:
            return
        if self._pool is None:
            self._pool = self._world.pool()
            self._link.watch(self._pool, POOL)
        self._at_work[id(device)] = device
        self._pool.ask(id(device), job, self._world.boot_us())

    def _take_work(self) -> None:
        """Hear what slow work has brought."""
        for ended in () if self._pool is None else self._pool.ended(self._world.boot_us()):
            device = self._at_work.pop(ended.owner)
            if ended.late:
                self._world.log("upgrade-work-late", {"device": device.id})
            if ended.outcome is not None:
                device.on_outcome(ended.outcome, self._world.instant())
            self._give_work(device)
            self._plan(device, 0)

    def shut(self) -> None:
        """Have every device say ``offline`` and disconnect; ``turn`` until ``closed``, then ``release``."""
        for device in self._devices:
            if not device.shutting:
                device.shut(self._world.instant())

    def release(self) -> None:
        """Let slow work go; the link is released by whoever made it."""
        if self._pool is not None:
            self._pool.close()

    @property
    def closed(self) -> bool:
        """Whether every device was shut and its line is gone."""
        return all(device.closed for device in self._devices)

    def _plan(self, device: Device, due_us: int) -> None:
        if self._planned.get(device) != due_us:
            self._planned[device] = due_us
            heapq.heappush(self._due, (due_us, next(self._numbers), device))

    def _wait_s(self, timeout_s: float) -> float:
        if not self._due:
            return timeout_s
        return min(timeout_s, max(0, self._due[0][0] - self._world.boot_us()) / SECOND_US)

    def _next_due(self) -> Device | None:
        """Return a device whose moment has come; plans that were changed meanwhile are passed over."""
        while self._due and self._due[0][0] <= self._world.boot_us():
            when, _, device = heapq.heappop(self._due)
            if self._planned.get(device) == when:
                del self._planned[device]
                return device
        return None
