"""A stage for two processes that die: the parent is a broker without a memory of its own wrongs, and the clock.

A process that died is started again from what it kept; messages that were not acknowledged come again.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetward_agent.state import Kept, StateFile
from fleetward_agent.walk import Stage
from fleetward_broker.line import Arrived, Loss
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.strict import b64_der
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Certificate, CertificateState, Use
from fleetward_server.store import Store, open_store
from tests.kills import sides
from tests.kills.points import DEAD, key_files
from tests.kills.sides import SERVER_LINE, Side
from tests.world_line import FakeClock, FakeLink

LIVE = {CertificateState.ISSUED, CertificateState.CURRENT}
Moment = tuple[int, str, str]
BODIES = {"agent": sides.agent, "server": sides.server}


@dataclass(frozen=True)
class Kill:
    """Which process dies where. when: before or after the point; label: what the dry run says it is."""

    side: str
    number: int
    when: str
    label: str

    def __str__(self) -> str:
        return f"{self.side} {self.when} {self.number}: {self.label}"


@dataclass
class Scene:
    """One run. kept: what the agent last said it keeps; fatal: the label at which a process died."""

    home: Path
    device_id: DeviceId
    clock: FakeClock
    kill: Kill | None = None
    stage: Stage | None = None
    kept: Kept = field(default_factory=Kept)
    fatal: str | None = None
    moments: dict[str, list[Moment]] = field(default_factory=dict)
    on_death: Callable[["Scene"], None] = lambda _: None

    def __post_init__(self) -> None:
        self.link = FakeLink(self.clock)
        self.store: Store = open_store(self.home / "provider" / "server.db")
        self.sides = {name: self._start(name, self.kill) for name in BODIES}
        self.waiting: list[Arrived] = []

    def _start(self, name: str, kill: Kill | None) -> Side:
        fatal = (kill.number, kill.when) if kill is not None and kill.side == name else None
        side = Side.start(BODIES[name], self.home, fatal)
        side.pipe.send(self.clock.boot_us if name == "agent" else self.clock.now)
        return side

    def end(self) -> None:
        """End both and forget the files."""
        for side in self.sides.values():
            side.end()
        self.store.close()

    def run(self, done: Callable[["Scene"], bool], within_s: float) -> None:
        """Let both work until it is done."""
        end = self.clock.now + timedelta(seconds=within_s)
        while not done(self):
            if self.clock.now > end:
                raise AssertionError(f"{self.kill}: not within {within_s} s: {self.stage} {self.kept.order}")
            waits_s = self._agent_turn()
            self._server_turn()
            if waits_s is not None:
                # Answered before time passes: what it waits for may be there already.
                self._answer_poll(waits_s)

    def _died(self, name: str) -> None:
        side = self.sides[name]
        side.process.join(60)
        if side.process.exitcode != DEAD:
            raise AssertionError(f"{self.kill}: the {name} ended by itself: {side.process.exitcode}")
        self._last_words(side)
        self.on_death(self)
        if name == "agent":
            self.link.cut()
        self.sides[name] = self._start(name, None)

    def _last_words(self, side: Side) -> None:
        """Hear what it said before it died; it may have died before it was spoken to."""
        with suppress(EOFError, ConnectionResetError):
            while side.pipe.poll():
                word, *rest = side.pipe.recv()
                self.fatal = rest[0] if word == "killed" else self.fatal
        side.pipe.close()

    def _agent_turn(self) -> float | None:
        """Answer the agent until it polls; return how long it would wait, None when it died."""
        try:
            while True:
                word, *rest = self.sides["agent"].pipe.recv()
                if word == "poll":
                    return self._polled(*rest)
                self._answer(word, rest)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._died("agent")
            return None

    def _polled(self, timeout_s: float, told: tuple[Stage, Kept, int] | None, moments: list[Moment]) -> float:
        if told is not None:
            self.stage, self.kept, _ = told
        self.moments["agent"] = moments
        return timeout_s

    def _answer_poll(self, waits_s: float) -> None:
        events = self.link.poll(waits_s)
        with suppress(BrokenPipeError):
            self.sides["agent"].pipe.send((self.clock.boot_us, events))

    def _answer(self, word: str, rest: list[Any]) -> None:
        if word == "killed":
            self.fatal = rest[0]
        elif word == "failed":
            raise AssertionError(f"{self.kill}: the agent failed: {rest[0]}")
        else:
            dial = rest[0]
            answer = self.link.open(lambda: dial) if word == "open" else getattr(self.link, word)(*rest)
            self.sides["agent"].pipe.send(answer)

    def _server_turn(self) -> None:
        """Give the server what was published and let it do its chores."""
        for topic, raw in self.link.published:
            self.waiting.append(Arrived(SERVER_LINE, topic, raw, 1, retained=False, mid=len(self.waiting) + 1))
        self.link.published.clear()
        pipe = self.sides["server"].pipe
        try:
            pipe.send((self.waiting, self.clock.now, self.clock.boot_us / 1e6))
            while True:
                word, *rest = pipe.recv()
                if self._served(word, rest):
                    return
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._died("server")

    def _served(self, word: str, rest: list[Any]) -> bool:
        match word:
            case "publish":
                self.link.send(*rest)
            case "committed":
                self.waiting.clear()
            case "killed":
                self.fatal = rest[0]
            case "failed":
                raise AssertionError(f"{self.kill}: the server failed: {rest[0]}")
            case "done":
                kicked, self.moments["server"] = rest
                if self.device_id in kicked:
                    self.link.refuse = Loss.TLS_REFUSED
                    self.link.cut()
                return True
        return False

    # What is on the disks, whoever lives.

    @property
    def keys(self) -> set[str]:
        """The device's key files."""
        return key_files(self.home / "device" / "state")

    def certificates(self) -> tuple[Certificate, ...]:
        """All that the server ever issued to the device."""
        return self.store.certificates(self.device_id)

    def on_disk(self) -> Kept:
        """What the device would start from."""
        return StateFile(self.home / "device" / "state").load()

    def has_a_valid_pair(self) -> bool:
        """Say whether the device holds both keys of a pair that the server takes."""
        kept, keys = self.on_disk(), self.keys
        live = {one.thumbprint for one in self.certificates() if one.state in LIVE and one.use is Use.DEVICE}
        for pair in (kept.pair, kept.previous):
            names = set() if pair is None else {f"{pair.device_key}.key.pem", f"{pair.transport_key}.key.pem"}
            if pair is not None and names <= keys and thumbprint(b64_der(pair.device_chain[0])) in live:
                return True
        return False
