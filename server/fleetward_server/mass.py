"""An act on many devices: fixed when it begins, done a few devices a transaction, and gone on with after any break.

What is done to a device and that it was done are one commit, so that no break makes it happen twice. A device that it
cannot be done to keeps nobody else waiting. Source: operations.py "Masses"; deploy/decisions/0001.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.topics import DeviceId
from fleetward_server import approval
from fleetward_server.assigning import read_wish
from fleetward_server.mass_state import Action, MassAct, MassWish, Outcome, Tally, Target
from fleetward_server.orders import order
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Device
from fleetward_server.store import Unit
from fleetward_server.upgrading import UpgradeOperator

BATCH = 20
"""Devices in one transaction: few enough that the server is not kept from its own."""
ENFORCE_EVERY = 500
"""Devices after which the broker is told whom to cut; it is told of the rest at the end, and at a break."""
Params = Mapping[str, Any]
Done = tuple[bool, str]
"""Whether anything changed, and what to note of it."""


class MassOperator(UpgradeOperator):
    """An operator on this host who also acts on many."""

    def begin_mass(self, wish: MassWish, devices: Sequence[DeviceId]) -> MassAct:
        """Keep an act on these devices; nothing is done to them yet.

        Raises:
            OperatorProblem: ``invalid``: it could be done to no device at all.
        """
        check(wish)
        now = self._now()
        text = json.dumps(dict(wish.params), separators=(",", ":"), sort_keys=True)
        name = next_id(now, None, secrets.token_bytes(RANDOM_BYTES))
        act = MassAct(name, wish.action, text, wish.filter, self._actor, wish.reason, now)
        with self._unit() as unit:
            unit.begin_mass(act, devices)
            said = f"{wish.action} {text} {len(devices)} devices {wish.filter}"
            unit.apply([self._entry("mass-begun", act.id, wish.reason, said)])
        return act

    def continue_mass(self, act_id: str, told: Callable[[Tally], None] = lambda _: None) -> Tally:
        """Do what is left of an act. told: hears the numbers after each transaction.

        Raises:
            OperatorProblem: ``not-found``; ``conflict``: finished already; ``failed``: the broker does not know yet.
        """
        act = self.mass_act(act_id)
        if act.finished_at is not None:
            raise OperatorProblem(Kind.CONFLICT, f"mass act {act_id}: finished at {act.finished_at:%Y-%m-%d %H:%M}Z")
        untold = self._untold(act)
        tally = self.mass_tally(act_id)
        try:
            for settled in self._batches(act):
                untold += [one.device_id for one in settled]
                if len(untold) >= ENFORCE_EVERY:
                    self._tell_broker(act, untold)
                tally = tally.settled(settled)
                told(tally)
        finally:
            self._tell_broker(act, untold)
        # Another may have done a part of it meanwhile, and even the last.
        tally = self.mass_tally(act_id)
        with self._unit() as unit:
            if unit.finish_mass(act_id, self._now()):
                said = f"{tally.done} done, {tally.unchanged} unchanged, {tally.failed} failed"
                unit.apply([self._entry("mass-finished", act_id, act.reason, said)])
        return tally

    def _untold(self, act: MassAct) -> list[DeviceId]:
        """Return of whom the broker may not have heard, when a run broke off."""
        if act.action is not Action.REVOKE:
            return []
        return [one.device_id for one in self.mass_targets(act.id, (Outcome.DONE, Outcome.UNCHANGED))]

    def _batches(self, act: MassAct) -> Iterator[tuple[Target, ...]]:
        """Do what is left, a transaction each; go on after the last, so that none is looked for from the beginning."""
        after = ""
        while True:
            with self._unit() as unit:
                waiting = unit.waiting_targets(act.id, after, BATCH)
                unit.prefetch(waiting, ())
                settled = tuple(self._part(unit, device_id, act) for device_id in waiting)
                for target in settled:
                    unit.settle_target(act.id, target)
            if not settled and not after:
                return
            # At the end once more from the beginning: another may have gone on with the same act and broken off.
            after = waiting[-1] if waiting else ""
            if settled:
                yield settled

    def _part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Target:
        """Do it to one device; where it cannot be done, nothing has changed."""
        try:
            changed, detail = _PARTS[act.action](self, unit, device_id, act)
        except OperatorProblem as problem:
            return Target(device_id, Outcome.FAILED, problem.message)
        return Target(device_id, Outcome.DONE if changed else Outcome.UNCHANGED, detail)

    def _tell_broker(self, act: MassAct, untold: list[DeviceId]) -> None:
        if act.action is Action.REVOKE and untold:
            self._enforce(untold, f"run: fleetward mass resume {act.id}")
        untold.clear()

    def _tag_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        before, params = unit.device(device_id), json.loads(act.params)
        moved = (params["add"], params["remove"])
        return self._tag(unit, device_id, moved, act.reason, _note(act)) is not before, ""

    def _revoke_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        before = unit.device(device_id)
        return self._revoke(unit, device_id, act.reason, _note(act)) is not before, ""

    def _decided_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        word, decide = _DECISIONS[act.action]
        what = (word, lambda device: decide(device, self._now()))
        return self._decided(unit, device_id, what, act.reason, _note(act)) is not None, ""

    def _command_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        return True, self._order(unit, device_id, order(**json.loads(act.params)), act.reason, _note(act)).id

    def _assign_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        made = self._assign(unit, device_id, read_wish(json.loads(act.params)), act.reason, _note(act))
        return made is not None, "" if made is None else str(made.version)

    def _cancel_part(self, unit: Unit, device_id: DeviceId, act: MassAct) -> Done:
        made = self._cancel(unit, device_id, act.reason, _note(act))
        return made is not None, "" if made is None else str(made.version)


def check(wish: MassWish) -> None:
    """Refuse what could be done to no device at all.

    Raises:
        OperatorProblem: ``invalid``.
    """
    _CHECKS[wish.action](wish.params)


def _note(act: MassAct) -> str:
    return f"mass {act.id}"


def _check_tags(params: Params) -> None:
    for tag in (*params["add"], *params["remove"]):
        approval.check_tag(tag)


def _check_order(params: Params) -> None:
    order(**params)


def _any(_: Params) -> None:
    """What needs to know nothing can always be told."""


_DECISIONS: Mapping[Action, tuple[str, Callable[[Device, datetime], Device]]] = {
    Action.QUARANTINE: ("quarantined", approval.quarantine),
    Action.RELEASE: ("released", approval.release),
    Action.REINSTATE: ("reinstated", approval.reinstate),
}
_CHECKS: Mapping[Action, Callable[[Params], None]] = {
    Action.TAG: _check_tags,
    Action.REVOKE: _any,
    **dict.fromkeys(_DECISIONS, _any),
    Action.COMMAND: _check_order,
    Action.ASSIGN_UPGRADE: _any,
    Action.CANCEL_UPGRADE: _any,
}
_PARTS: Mapping[Action, Callable[[MassOperator, Unit, DeviceId, MassAct], Done]] = {
    Action.TAG: MassOperator._tag_part,  # noqa: SLF001 - its own table
    Action.REVOKE: MassOperator._revoke_part,  # noqa: SLF001
    **dict.fromkeys(_DECISIONS, MassOperator._decided_part),  # noqa: SLF001
    Action.COMMAND: MassOperator._command_part,  # noqa: SLF001
    Action.ASSIGN_UPGRADE: MassOperator._assign_part,  # noqa: SLF001
    Action.CANCEL_UPGRADE: MassOperator._cancel_part,  # noqa: SLF001
}
