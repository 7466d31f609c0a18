"""The link: one selector in one thread, one line or thousands.

Rule: nothing waits but ``poll``. Each turn starts the dials that are due, writes what was queued since the last turn
(each line once), asks the selector, and gives every ready line one TLS record: a line that floods gets no more turns
than the others, and what the owner does not take stays in the sockets. Lost lines are told once and never redialled.
Source: deploy/decisions/0001 "One concurrency style"; ``line.Link`` is the contract.
"""

import heapq
import itertools
import selectors
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fleetward_broker.dial import AddressBook, Knock, NotThrough
from fleetward_broker.line import Arrived, Dial, DialMaker, Event, LineId, Link, Loss, Lost, Readable, Token
from fleetward_broker.wire import Wire

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
GATHER_S = 0.02  # with events in hand, how long ready lines are read on before they are handed over
LOOK_UP_S = 0.02  # how often a pending name is asked for
CLOSE_WITHIN_S = 5.0
CHECKS_PER_KEEP_ALIVE = 4  # a ping goes out at 1.25 keep-alives at the latest; brokers wait 1.5 (MQTT-3.1.2-24)

Timer = tuple[float, int, Callable[[], None]]


class SelectorLink(Link):
    """``line.Link`` over non-blocking TLS sockets. One thread owns it."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        dials_at_once: int = 64,
        connect_timeout_s: float = 20.0,
        gather_s: float = GATHER_S,
    ) -> None:
        """gather_s: with events in hand, how long ready lines are read on: a batch for one commit."""
        self._gather_s = gather_s
        self._monotonic = monotonic
        self._dials_at_once = dials_at_once
        self._connect_timeout_s = connect_timeout_s
        self._selector = selectors.DefaultSelector()
        self._book = AddressBook()
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)
        self._timers: list[Timer] = []
        self._waiting: dict[LineId, DialMaker] = {}
        self._due: deque[LineId] = deque()
        self._knocks: dict[LineId, Knock] = {}
        self._looking: dict[LineId, Knock] = {}
        self._wires: dict[LineId, Wire] = {}
        self._unwritten: dict[LineId, Wire] = {}
        self._ready: deque[tuple[selectors.SelectorKey, int]] = deque()
        self._events: deque[Event] = deque()
        self._readable: set[str] = set()

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        """Begin a line ``after_s`` from now; see ``line.Link``."""
        line = LineId(next(self._numbers))
        self._waiting[line] = dial
        self._later(after_s, partial(self._due.append, line))
        return line

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        """Queue a publish for the next turn; None when the line is not connected, or 4 MiB wait on it already.

        With 16 MiB that the broker took and never acknowledged, the line ends.
        """
        wire = self._wires.get(line)
        token = Token(next(self._tokens))
        if wire is None or not wire.publish(token, topic, payload, qos=qos, retain=retain):
            if wire is not None:
                self._lose_if_ended(wire)
            return None
        return token

    def ack(self, arrived: Arrived) -> None:
        """Queue a PUBACK for the next turn; nothing when the line is gone: the broker sends the message again."""
        wire = self._wires.get(arrived.line)
        if wire is not None and arrived.qos:
            wire.ack(arrived)

    def subscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        """Queue a SUBSCRIBE for the next turn; see ``line.Link``."""
        wire = self._wires.get(line)
        if wire is not None:
            wire.subscribe(topics)

    def unsubscribe(self, line: LineId, topics: tuple[str, ...]) -> None:
        """Queue an UNSUBSCRIBE for the next turn; see ``line.Link``."""
        wire = self._wires.get(line)
        if wire is not None:
            wire.unsubscribe(topics)

    def close(self, line: LineId) -> None:
        """End a line; ``Lost(CLOSED)`` follows once, when what was queued and DISCONNECT are out or 5 s have passed."""
        wire = self._wires.get(line)
        if wire is not None:
            wire.close()
            self._unwritten[line] = wire
            self._later(CLOSE_WITHIN_S, partial(self._cut, wire))
        elif line in self._waiting or line in self._knocks:
            self._lose(Lost(line, Loss.CLOSED))

    def watch(self, fileobj: "FileDescriptorLike", tag: str) -> None:
        """Tell ``Readable(tag)`` once in each poll while ``fileobj`` is readable."""
        self._selector.register(fileobj, READ, partial(self._tell_readable, tag))

    def _tell_readable(self, tag: str, _: int) -> None:
        # It stays readable until its owner reads: told once a poll.
        if tag not in self._readable:
            self._readable.add(tag)
            self._events.append(Readable(tag))

    def shutdown(self) -> None:
        """Release every socket at once; what is queued is not written. ``close`` lines first to end them in order."""
        for knock in self._knocks.values():
            knock.drop()
        for wire in self._wires.values():
            wire.drop()
        self._waiting.clear()
        self._knocks.clear()
        self._looking.clear()
        self._wires.clear()
        self._unwritten.clear()
        self._timers.clear()
        self._ready.clear()
        self._book.close()
        self._selector.close()

    def poll(self, timeout_s: float, most: int = 1000) -> list[Event]:
        """Return at most ``most`` events, waiting up to ``timeout_s`` for the first."""
        until = self._monotonic() + timeout_s
        self._readable.clear()
        while True:
            had = len(self._events)
            self._turn(until, most)
            now = self._monotonic()
            if self._events:
                until = min(until, now + self._gather_s)
            if now >= until or had == len(self._events) > 0 or len(self._events) >= most:
                break
        return [self._events.popleft() for _ in range(min(most, len(self._events)))]

    def _turn(self, until: float, most: int) -> None:
        """Do all that can be done without waiting, or wait once."""
        self._run_timers()
        self._start_dials()
        self._write()
        if not self._ready:
            self._ready.extend(self._selector.select(self._wait_s(until)))
        while self._ready and len(self._events) < most:
            key, mask = self._ready.popleft()
            key.data(mask)
        self._write()

    def _wait_s(self, until: float) -> float:
        if self._events or self._due_now():
            return 0.0
        if self._timers:
            until = min(until, self._timers[0][0])
        wait_s = max(0.0, until - self._monotonic())
        return min(wait_s, LOOK_UP_S) if self._looking else wait_s

    def _due_now(self) -> bool:
        return bool(self._due) and len(self._knocks) < self._dials_at_once

    def _later(self, after_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self._monotonic() + after_s, next(self._numbers), action))

    def _run_timers(self) -> None:
        now = self._monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _start_dials(self) -> None:
        while self._due_now():
            line = self._due.popleft()
            maker = self._waiting.pop(line, None)
            if maker is not None:
                self._start_dial(line, maker())
        for line, knock in list(self._looking.items()):
            if knock.looked_up:
                del self._looking[line]
                self._step(line, knock, knock.step)

    def _start_dial(self, line: LineId, dial: Dial) -> None:
        knock = Knock(dial, self._book.look_up(dial.host, dial.port))
        self._knocks[line] = self._looking[line] = knock
        self._later(self._connect_timeout_s, partial(self._give_up, line))

    def _step(self, line: LineId, knock: Knock, go: Callable[[], int]) -> None:
        if self._knocks.get(line) is not knock:
            return
        self._unwatch(knock.fd)
        try:
            wanted = go()
        except NotThrough as ended:
            self._lose(Lost(line, ended.loss, ended.detail))
            return
        if wanted:
            self._selector.register(knock.fd, wanted, lambda _: self._step(line, knock, knock.step))
            self._limit(line, knock)
        else:
            del self._knocks[line]
            self._begin(line, knock)

    def _limit(self, line: LineId, knock: Knock) -> None:
        """Give this address its share of the time when there is another to try."""
        left = knock.addresses_left
        if knock.in_tcp and left:
            self._later(self._connect_timeout_s / (1 + left), partial(self._try_next, line, knock, left))

    def _try_next(self, line: LineId, knock: Knock, left: int) -> None:
        if knock.in_tcp and knock.addresses_left == left:
            self._step(line, knock, partial(knock.next_address, "no answer"))

    def _begin(self, line: LineId, knock: Knock) -> None:
        wire = Wire(line, knock.dial, knock.take(), tell=self._events.append, wants=self._wants)
        self._wires[line] = wire
        self._selector.register(wire.fd, READ, partial(self._serve, wire))
        if knock.dial.keep_alive_s:
            self._later(knock.dial.keep_alive_s / CHECKS_PER_KEEP_ALIVE, partial(self._keep_alive, wire))

    def _wants(self, wire: Wire) -> None:
        self._unwritten[wire.line] = wire

    def _serve(self, wire: Wire, mask: int) -> None:
        if self._wires.get(wire.line) is not wire:
            return
        if mask & READ:
            wire.read()
        if mask & WRITE:
            self._wants(wire)
        self._lose_if_ended(wire)

    def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        for wire in unwritten.values():
            wire.write()
            self._lose_if_ended(wire)
            if wire.end is None:
                self._set_interest(wire)

    def _set_interest(self, wire: Wire) -> None:
        wanted = READ | WRITE if wire.wants_write else READ
        key = self._selector.get_key(wire.fd)
        if key.events != wanted:
            self._selector.modify(wire.fd, wanted, key.data)

    def _keep_alive(self, wire: Wire) -> None:
        if self._wires.get(wire.line) is wire:
            wire.keep_alive()
            self._lose_if_ended(wire)
            self._later(wire.dial.keep_alive_s / CHECKS_PER_KEEP_ALIVE, partial(self._keep_alive, wire))

    def _give_up(self, line: LineId) -> None:
        detail = f"no answer within {self._connect_timeout_s:g} s"
        wire = self._wires.get(line)
        if line in self._knocks:
            self._lose(Lost(line, Loss.UNREACHABLE, detail))
        elif wire is not None and not wire.is_connected and not wire.is_closing:
            wire.finish(Loss.UNREACHABLE, detail)
            self._lose_if_ended(wire)

    def _cut(self, wire: Wire) -> None:
        if self._wires.get(wire.line) is wire:
            wire.finish(Loss.CLOSED, f"the broker did not close within {CLOSE_WITHIN_S:g} s")
            self._lose_if_ended(wire)

    def _lose_if_ended(self, wire: Wire) -> None:
        if wire.end is not None and self._wires.get(wire.line) is wire:
            self._lose(wire.end)

    def _lose(self, lost: Lost) -> None:
        self._waiting.pop(lost.line, None)
        self._looking.pop(lost.line, None)
        self._unwritten.pop(lost.line, None)
        for holder in (self._knocks.pop(lost.line, None), self._wires.pop(lost.line, None)):
            if holder is not None:
                self._unwatch(holder.fd)
                holder.drop()
        self._events.append(lost)

    def _unwatch(self, fd: int) -> None:
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)
