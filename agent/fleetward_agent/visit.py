"""A visit by somebody with a bundle, on a device whose agent does not run: two on one state would use one number twice.

Order as on the line: commit, then act, then speak; the answers are written once all they say is committed.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from fleetward_agent import bundle, desk, receipts
from fleetward_agent.birth import born
from fleetward_agent.clock import kept as with_clock
from fleetward_agent.crafts import Crafts
from fleetward_agent.device import Device
from fleetward_agent.instant import Instant
from fleetward_agent.known import known_to
from fleetward_agent.session import new_id
from fleetward_agent.status import NotRegistered
from fleetward_agent.trust import Chains
from fleetward_agent.turn import Say, Turn
from fleetward_agent.upgrade_effects import UpgradeEffect
from fleetward_agent.walk import Stage
from fleetward_schemas.bundle import MAX_BUNDLE_BYTES, Carried, read_bundle, write_bundle
from fleetward_schemas.clock import TimeQuestion
from fleetward_schemas.topics import up

MOST_STEPS = 1000
MOST_ANSWER_BYTES = MAX_BUNDLE_BYTES - 1024 * 1024


class Visit:
    """One visit; the state is held by the caller."""

    def __init__(self, device: Device, boot_id: str, at: Instant) -> None:
        """Take up where the agent stood.

        Raises:
            NotRegistered; StateProblem, OSError, sqlite3.Error: what was kept cannot be used.
        """
        self._parts = device.parts
        self._parts.state.sweep()
        self._session = born(device.origin, self._parts.state.load(), device.parts, device.options, boot_id, at)
        if self._session.kept.pair is None:
            raise NotRegistered(f"{device.id}: no certificate yet, or none any more: it must enrol on the line first")
        self._chains = Chains(device.origin.anchors)
        self._crafts = Crafts(device.origin, device.parts, device.options)
        self._crafts.count_from(self._session.kept.carried_seq)

    def apply(self, whole: bytes, at: Instant) -> bundle.Read:
        """Take a bundle and do what it orders.

        Raises:
            Refused: nothing of it was taken. KeyUnavailable, OSError, sqlite3.Error: taken as far as was committed.
        """
        know = partial(known_to, self._parts.outbox)
        done = bundle.read(read_bundle(whole), self._session, know, self._chains, at)
        self._commit(done.turn.on(with_clock(done.session, at)))
        for _ in range(MOST_STEPS):
            turn = bundle.step(self._session, at)
            if not turn.changes and not turn.effects and turn.session.kept == self._session.kept:
                break
            self._act(turn, at)
        return done

    def answers(self, at: Instant) -> tuple[bytes, int]:
        """Return the file to carry back, and how many reports are in it; the reports wait on for their ``ack``."""
        if self._session.stage is Stage.RESTING:
            return write_bundle(()), 0
        self._session = bundle.asked(self._session, at)
        found = bundle.waiting(self._session, self._parts.outbox)
        carried = list(self._sealed(receipts.send(self._session, at, found, {}).says, at))
        seq = max(self._session.kept.carried_seq, self._crafts.highest_seq)
        self._commit(Turn(replace(self._session, kept=replace(self._session.kept, carried_seq=seq))))
        return write_bundle(carried), len(carried) - 1

    def _sealed(self, says: Iterable[Say], at: Instant) -> Iterable[Carried]:
        question = self._session.kept.carried
        size_bytes = 0
        if question is not None:
            self._session, made = new_id(self._session, at, "carried question")
            says = (Say("time", made, TimeQuestion(nonce=question.nonce)), *says)
        for say in says:
            one = Carried(up(self._session.principal, say.kind), self._crafts.seal(self._session, say, at))
            size_bytes += len(one.raw)
            if size_bytes > MOST_ANSWER_BYTES:
                return
            yield one

    def _act(self, turn: Turn, at: Instant) -> None:
        self._commit(turn)
        for effect in turn.effects:
            # What an effect brings may be of no use to a device without a line; from then on it is only not done.
            # An upgrade goes on where the agent runs.
            if isinstance(effect, UpgradeEffect):
                continue
            outcome = self._crafts.perform(effect, self._session, at)
            self._commit(desk.conclude(outcome, self._session, at))

    def _commit(self, turn: Turn) -> None:
        if turn.session.kept != self._session.kept:
            self._parts.state.save(turn.session.kept)
        if turn.changes:
            self._parts.outbox.commit(turn.changes)
        self._session = turn.session
