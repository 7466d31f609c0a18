"""The operator of upgrades: what devices shall run, what came of it, and what would be and why not.

Source: S7, C8; assigning.py for what is lawful.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fleetward_schemas.moment import to_ms
from fleetward_schemas.shapes import read_json
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import AHEAD_MS, Progress
from fleetward_server import assigning, upgrade
from fleetward_server.assigning import Plan, UpgradeWish, Window
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem, nearest
from fleetward_server.selection import Selection
from fleetward_server.state import Device
from fleetward_server.store import ReportFilter, Unit
from fleetward_server.upgrade_state import Assignment, Upgrade, Wanted
from fleetward_server.upgrade_status import Line, Step, lines_of, step

if TYPE_CHECKING:
    from fleetward_server.releases.shelf import Shelf, Target


class UpgradeOperator(LocalOperator):
    """An operator on this host who also says what devices shall run."""

    _opened_shelf: "Shelf | None" = None

    def wish(self, target: str, name: str, devices: Sequence[DeviceId], window: Window | None) -> UpgradeWish:
        """Return what is wished: this target, or the newest of a name for each model of these devices.

        Raises:
            OperatorProblem: ``not-found``: nothing such is released. ``invalid``: a window that makes no sense.
        """
        found = UpgradeWish((self._target(target).path,) if target else self._newest(name, devices), window)
        assigning.check(found, self._now())
        return found

    def assign(self, device_id: DeviceId, wish: UpgradeWish, reason: str) -> Assignment | None:
        """Have one device run something; None where that is so already.

        Raises:
            OperatorProblem: ``held``, ``conflict``, ``invalid``: it may not be told that.
        """
        with self._unit() as unit:
            return self._assign(unit, device_id, wish, reason)

    def cancel_upgrades(self, device_id: DeviceId, reason: str) -> Assignment | None:
        """Have one device change nothing; None where nothing is assigned to it."""
        with self._unit() as unit:
            return self._cancel(unit, device_id, reason)

    def plan_upgrades(self, devices: Sequence[DeviceId], wish: UpgradeWish) -> tuple[Plan, ...]:
        """Return what ``assign`` would do to each, and why not; nothing is changed."""
        with self.opened() as store, store.glance() as unit:
            return tuple(self._plan(unit, device_id, wish) for device_id in devices)

    def upgrades(self, wanted: Selection, name: str = "", after: str = "", limit: int = 500) -> tuple[Line, ...]:
        """Return each piece of software of the devices that a filter means, by device and name.

        limit: of devices, those after the cursor.
        """
        with self.opened() as store:
            devices = store.devices(wanted, after=after, limit=limit)
            ids = [one.id for one in devices]
            assigned, got = store.assignments_of(ids), store.upgrades_of(ids)
        by_device: dict[DeviceId, dict[str, Upgrade]] = {}
        for one in got:
            by_device.setdefault(one.device_id, {})[one.name] = one
        lines = (lines_of(one, assigned.get(one.id), by_device.get(one.id, {})) for one in devices)
        return tuple(line for some in lines for line in some if name in {"", line.name})

    def upgrade_history(self, device_id: DeviceId, limit: int = 500) -> tuple[Step, ...]:
        """Return what a device said of its upgrades, oldest first."""
        with self.opened() as store:
            reports = store.reports(ReportFilter(device_id, "progress"), limit=limit)
            with store.glance() as unit:
                words = [(one, read_json(Progress, one.body.encode())) for one in reports]
                versions = {said.assignmentVersion for _, said in words}
                made = {version: unit.assignment(device_id, version) for version in versions}
        return tuple(step(report, said, made[said.assignmentVersion]) for report, said in words)

    # One device's part of an act, in a transaction that may hold more. Each raises before it has changed anything.

    def _assign(
        self, unit: Unit, device_id: DeviceId, wish: UpgradeWish, reason: str, note: str = ""
    ) -> Assignment | None:
        device, counts = _device(unit, device_id), unit.counting(device_id)
        plan = self._planned(unit, device, counts, wish)
        return None if plan is None else self._make(unit, device, plan, ("upgrade-assigned", reason, note))

    def _cancel(self, unit: Unit, device_id: DeviceId, reason: str, note: str = "") -> Assignment | None:
        device, counts = _device(unit, device_id), unit.counting(device_id)
        if counts is None or not counts.wanted:
            return None
        return self._make(unit, device, ((), None), ("upgrade-cancelled", reason, note))

    def _make(
        self, unit: Unit, device: Device, plan: tuple[tuple[Wanted, ...], Window | None], said: tuple[str, str, str]
    ) -> Assignment:
        now, (action, reason, note) = self._now(), said
        made = unit.made_version(device.id, to_ms(now) + AHEAD_MS)
        version = upgrade.next_version(now, unit.taken_version(device.id), made)
        assignment = Assignment(device.id, version, plan[0], self._actor, reason, now, plan[1])
        told = f"{upgrade.described(assignment)} {note}".strip()
        unit.apply([upgrade.put(assignment, device, now), self._entry(action, device.id, reason, told)])
        return assignment

    def _planned(
        self, unit: Unit, device: Device, counts: Assignment | None, wish: UpgradeWish
    ) -> tuple[tuple[Wanted, ...], Window | None] | None:
        assigning.obeys(device)
        target = assigning.choose(device, [self._target(path) for path in wish.targets])
        return assigning.planned(device, target, counts, unit.upgrade(device.id, target.name), wish.window)

    def _plan(self, unit: Unit, device_id: DeviceId, wish: UpgradeWish) -> Plan:
        device, counts = _device(unit, device_id), unit.counting(device_id)
        outcome, detail, target = "refused", "", None
        try:
            target = assigning.choose(device, [self._target(path) for path in wish.targets])
            changes = self._planned(unit, device, counts, wish) is not None
            outcome, detail = ("would-assign", "") if changes else ("unchanged", "it is so already")
        except OperatorProblem as problem:
            detail = problem.message
        got = None if target is None else unit.upgrade(device_id, target.name)
        assigned = None if counts is None or target is None else counts.of(target.name)
        return Plan(
            device_id=device_id,
            serial=device.identity.serialNo,
            running=None if got is None or got.committed is None else got.committed.version,
            assigned=None if assigned is None else assigned.version,
            target=None if target is None else f"{target.name} {target.version}",
            outcome=outcome,
            detail=detail,
        )

    @property
    def _shelf(self) -> "Shelf":
        """What is released, verified once for this operator."""
        from fleetward_server.releases.shelf import open_shelf

        if self._opened_shelf is None:
            self._opened_shelf = open_shelf(self.config)
        return self._opened_shelf

    def _target(self, path: str) -> "Target":
        found = self._shelf.targets.get(path)
        if found is None:
            raise OperatorProblem(Kind.NOT_FOUND, f"{path!r} is not released; {_hint(path, self._shelf.targets)}")
        return found

    def _newest(self, name: str, devices: Sequence[DeviceId]) -> tuple[str, ...]:
        names = {one.name for one in self._shelf.targets.values()}
        if name not in names:
            raise OperatorProblem(Kind.NOT_FOUND, f"nothing named {name!r} is released; {_hint(name, names)}")
        with self.opened() as store, store.glance() as unit:
            models = {assigning.model_of(_device(unit, one)) for one in devices}
        found = {one.path for model in models if (one := self._shelf.newest(name, model)) is not None}
        if not found:
            raise OperatorProblem(Kind.NOT_FOUND, f"no {name} is released for {', '.join(sorted(models))}")
        return tuple(sorted(found))


def _hint(word: str, known: Iterable[str]) -> str:
    words = list(known)
    return nearest(word, words) if words else "nothing is released yet: fleetward release"


def _device(unit: Unit, device_id: DeviceId) -> Device:
    device = unit.device(device_id)
    if device is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"no device {device_id!r}")
    return device
