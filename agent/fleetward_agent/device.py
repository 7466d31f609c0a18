"""One device at work: its session, its line, and the world it is attached to. The only place where steps meet effects.

Order of every turn: commit, then acknowledge, then speak, then act. What cannot be committed is neither acknowledged
nor said: the line is dropped and the broker gives it again. Source: deploy/decisions/0001 "How data flows".
"""

import sqlite3
from collections.abc import Mapping, MutableMapping
from dataclasses import replace

from fleetward_agent import clock, desk, dialing, presence, sending, upgrade_reading
from fleetward_agent.birth import born, with_suffixes
from fleetward_agent.commit import commit
from fleetward_agent.crafts import Crafts
from fleetward_agent.due import due_us
from fleetward_agent.hands import SlowWork
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.known import known_to
from fleetward_agent.origin import Origin
from fleetward_agent.own_line import OwnLine
from fleetward_agent.parts import Options, Parts
from fleetward_agent.pool import Job
from fleetward_agent.session import Session
from fleetward_agent.trust import Chains
from fleetward_agent.turn import Effect, Note, Say, Turn
from fleetward_agent.upgrade_effects import UpgradeEffect, UpgradeOutcome
from fleetward_agent.walk import DOORS, Door, Stage
from fleetward_agent.world import World
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import Arrived, Connected, Delivered, Dial, Event, LineId, Link, Loss, Lost, Will
from fleetward_schemas.errors import LocalMistake, Refused
from fleetward_schemas.presence import StatusReason
from fleetward_schemas.topics import DeviceId, up

__all__ = ["Device", "Options", "Parts"]

STALL_S = 5
"""How long a device leaves a full disk or a missing key alone before it tries again."""


class Device:
    """See the module. ``Host`` drives it: ``begin``, then ``on_event``, ``step`` and ``shut``."""

    def __init__(self, origin: Origin, parts: Parts, options: Options | None = None) -> None:
        """Make a device; nothing is opened or read before ``begin``."""
        self.origin = origin
        self.parts = parts
        self.options = options or Options()
        self.id: DeviceId = origin.device_id
        self.shutting = False
        self.slow = SlowWork(parts.hands)
        self._chains = Chains(origin.anchors)
        self._crafts = Crafts(origin, parts, self.options)
        self._stalled_us = 0
        self._session: Session | None = None
        self._world: World | None = None
        self._line = OwnLine()
        self._lines: MutableMapping[LineId, Device] = {}

    @property
    def line(self) -> LineId | None:
        """Its line, if there is one."""
        return self._line.id

    @property
    def session(self) -> Session:
        """All that its steps know."""
        if self._session is None:
            raise LocalMistake("the device was not begun")
        return self._session

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return self.session.stage

    @property
    def counts(self) -> Mapping[str, int]:
        """Connections made, messages refused per code."""
        return self.session.counts

    @property
    def closed(self) -> bool:
        """Whether it was shut and its line is gone."""
        return self.shutting and self.line is None

    def begin(self, link: Link, world: World, lines: MutableMapping[LineId, "Device"]) -> None:
        """Read what was kept and take up the walk where it stood.

        Raises:
            StateProblem: the state is damaged. OSError, sqlite3.Error: it cannot be read or written.
        """
        self._line.begin(link)
        self._world, self._lines = world, lines
        at = world.instant()
        self.parts.state.sweep()
        kept = self.parts.state.load()
        if self.parts.state.fell_back:
            self._log(Note("state-from-backup"))
        whole = with_suffixes(kept, at)
        if whole != kept:
            self.parts.state.save(whole)
        self._session = born(self.origin, whole, self.parts, self.options, world.boot_id, at)
        self._log(Note("begun", (("stage", self.stage), ("waiting", self.parts.outbox.depth))))

    def due_us(self, boot_us: int) -> int:
        """Return when ``step`` has something to do; of one that was shut, its line's end is waited for."""
        if self.shutting:
            return boot_us + SECOND_US
        return max(self._stalled_us, due_us(self.session, boot_us))

    def step(self, at: Instant) -> None:
        """Do what is due: steps, reports to send, the line to open or to change."""
        self._session = clock.awake(self.session, at)
        if self.shutting or at.boot_us < self._stalled_us:
            return
        if self.slow.kept:
            self.on_outcome(self.slow.kept.popleft(), at)
        if self._apply(desk.step(self.session, at), at):
            self._pump(at)
            self._match(at)
            if self.session.connected:
                self._line.follow(upgrade_reading.topics(self.session))

    def on_event(self, event: Event, at: Instant) -> None:
        """Take one event of this device's line."""
        self._session = clock.awake(self.session, at)
        match event:
            case Connected(line=line) if line == self.line:
                self._apply(dialing.on_connected(self.session, at), at)
            case Lost(line=line, loss=loss, detail=detail) if line == self.line:
                self._forget_line()
                turn = dialing.on_lost(self.session, loss, at)
                self._apply(replace(turn, notes=(*turn.notes, Note("line", (("detail", detail[:200]),)))), at)
            case Arrived(line=line) if line == self.line:
                self._spend(event.topic, event.payload)
                self._line.heard(event.topic)
                self._take(event, at)
            case Delivered() | _:
                # A broker's word proves nothing end to end; a line we left has nothing to tell.
                pass

    def next_job(self) -> Job | None:
        """Return slow work to be done off the loop, one piece at a time; ``on_outcome`` tells what came of it."""
        if (world := self._world) is None:
            raise LocalMistake("the device was not begun")
        # Dates unchecked: a download is believed by its hash, and the system clock is not trusted (protocol section 5).
        return self.slow.next_job(
            lambda: world.context(self.origin.roots, self._crafts.transport(self.session), False), world.log
        )

    def on_outcome(self, outcome: UpgradeOutcome, at: Instant) -> None:
        """Take what slow work brought; what cannot be committed is taken again."""
        self._session = clock.awake(self.session, at)
        if not self.shutting and not self._apply(desk.conclude(outcome, self.session, at), at):
            self.slow.kept.append(outcome)

    def shut(self, at: Instant, reason: StatusReason = StatusReason.SHUTDOWN) -> None:
        """Say ``offline``, write the clock down, and disconnect."""
        self._apply(presence.farewell(self.session, at, reason), at)
        self._apply(desk.keep_clock(self.session, at), at)
        self.shutting = True
        self.slow.stop()
        self._line.close()

    def _take(self, arrived: Arrived, at: Instant) -> None:
        if not desk.may_look(self.session, arrived.topic, at):
            return
        try:
            turn = self._turn(arrived, at) if arrived.payload else Turn(self.session)
        except Refused as refusal:
            turn = desk.refused(self.session, arrived.topic, refusal, at)
        if not self._apply(turn, at, arrived):
            # Not committed, so not acknowledged: the broker gives it again on the next line.
            self._hang_up(at, Loss.DROPPED)

    def _turn(self, arrived: Arrived, at: Instant) -> Turn:
        opened, chain = desk.open_message(self.session, arrived.payload, arrived.topic, self._chains, at)
        admitted = desk.take(self.session, opened, chain)
        turn = desk.handle(admitted, known_to(self.parts.outbox, admitted.said.body), self.session, at)
        return replace(turn, notes=(Note("took", (("kind", opened.kind.name),)), *turn.notes))

    def _apply(self, turn: Turn, at: Instant, arrived: Arrived | None = None) -> bool:
        """Commit, acknowledge, speak, act; say whether the commit held."""
        if not self._commit(turn, at):
            return False
        if arrived is not None:
            self._line.ack(arrived)
        for note in turn.notes:
            self._log(note)
        for say in turn.says:
            self._say(say, at)
        for effect in turn.effects:
            self._act(effect, at)
        return True

    def _commit(self, turn: Turn, at: Instant) -> bool:
        try:
            self._session = commit(turn, self.session, self.parts, at)
        except (sqlite3.Error, OSError) as error:
            where = self.parts.outbox.path or "memory"
            self._stall(at, Note("storage-failed", (("file", str(where)), ("problem", str(error)))))
            return False
        return True

    def _act(self, effect: Effect, at: Instant) -> None:
        if isinstance(effect, UpgradeEffect):
            self.slow.ask(effect)
            return
        try:
            outcome = self._crafts.perform(effect, self.session, at)
        except (KeyUnavailable, OSError, sqlite3.Error) as error:
            self._stall(at, Note("effect-failed", (("effect", type(effect).__name__), ("problem", str(error)))))
            return
        self._apply(desk.conclude(outcome, self.session, at), at)

    def _pump(self, at: Instant) -> None:
        """Send what waits, as far as there is room for it."""
        if self.session.clock.synced(at.boot_us):
            self._session = replace(self.session, budget=self.session.budget.at(self.session.clock.now(at.boot_us)))
        turn = sending.next_reports(self.session, self.parts.outbox, at)
        if turn is not None:
            self._apply(turn, at)

    def _spend(self, topic: str, payload: bytes) -> None:
        before = self.session.budget
        after = before.spend(len(topic) + len(payload))
        self._session = replace(self.session, budget=after)
        if after.over and not before.over:
            self._log(Note("budget-spent", (("bytes", after.spent),)))

    def _say(self, say: Say, at: Instant) -> None:
        """Seal and publish; what belongs to another door than the open one is not said."""
        if self.line is None or DOORS[self.stage] != self.session.door:
            return
        try:
            sealed = self._crafts.seal(self.session, say, at)
        except KeyUnavailable as error:
            self._stall(at, Note("key-unavailable", (("problem", str(error)),)))
            return
        topic = up(self.session.principal, say.kind)
        self._spend(topic, sealed)
        self._line.publish(topic, sealed)

    def _match(self, at: Instant) -> None:
        """Make the line fit the stage: close one at the wrong door, open one where there is none."""
        if self.line is not None and (self.session.redial or self.session.door != DOORS[self.stage]):
            self._hang_up(at)
        door = dialing.wanted(self.session, at)
        if door is not None and self.line is None:
            self._open(door, at)

    def _open(self, door: Door, at: Instant) -> None:
        if self._world is None:
            raise LocalMistake("the device was not begun")
        try:
            shown = self._crafts.shown_at(door, self.session)
            context = self._world.context(self.origin.roots, shown, door.strict)
        except (KeyUnavailable, OSError) as error:
            self._stall(at, Note("key-unavailable", (("problem", str(error)),)))
            return
        self._session = dialing.opening(self.session, door)
        bare = dialing.dial(self.session, door, self.options, context)
        self._lines[self._line.open(lambda: self._dial(bare))] = self

    def _dial(self, bare: Dial) -> Dial:
        """Return the dial with a will signed this moment, where there is to be one."""
        if bare.clean or self._world is None or self.stage is not Stage.GREETING:
            return bare
        at = self._world.instant()
        self._session, will = presence.begin(self.session, at)
        try:
            sealed = self._crafts.seal(self.session, will, at)
        except KeyUnavailable as error:
            self._stall(at, Note("key-unavailable", (("problem", str(error)),)))
            return bare
        return replace(bare, will=Will(up(self.session.principal, will.kind), sealed))

    def _hang_up(self, at: Instant, loss: Loss | None = None) -> None:
        """Close the line; after a failure of our own, wait as after a loss."""
        self._line.close()
        self._forget_line()
        after = dialing.hung_up(self.session) if loss is None else dialing.on_lost(self.session, loss, at).session
        self._session = replace(after, dial_us=max(after.dial_us, at.boot_us))

    def _forget_line(self) -> None:
        if self.line is not None:
            self._lines.pop(self.line, None)
        self._line.forget()

    def _stall(self, at: Instant, note: Note) -> None:
        self._stalled_us = at.after_s(STALL_S)
        self._log(note)

    def _log(self, note: Note) -> None:
        if self._world is not None:
            self._world.log(note.event, {"device": self.id, **dict(note.fields)})
