"""What a device may be told to run, judged before it is told: what every device judges again by itself.

Source: S7, C8; wire, section "Upgrades" 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import parse, show
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import MAX_RELEASES, Phase, Release
from fleetward_server import upgrade
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Device
from fleetward_server.upgrade_state import Assignment, Upgrade, Wanted

if TYPE_CHECKING:
    from fleetward_server.releases.shelf import Target

Window = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class UpgradeWish:
    """What devices shall run. targets: each device takes the highest of those that are for its model.

    window: when installing may begin, None: as it stands.
    """

    targets: tuple[str, ...]
    window: Window | None = None

    def params(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        begin, end = (None, None) if self.window is None else map(show, self.window)
        return {"targets": list(self.targets), "from": begin, "to": end}


@dataclass(frozen=True, slots=True)
class Plan:
    """What an assignment would do to one device. outcome: ``would-assign``, ``unchanged`` or ``refused``."""

    device_id: DeviceId
    serial: str
    running: str | None
    assigned: str | None
    target: str | None
    outcome: str
    detail: str


def read_wish(params: Mapping[str, Any]) -> UpgradeWish:
    """Read what ``UpgradeWish.params`` wrote."""
    window = None if params["from"] is None else (parse(params["from"]), parse(params["to"]))
    return UpgradeWish(tuple(params["targets"]), window)


def check(wish: UpgradeWish, now: datetime) -> None:
    """Refuse what no device could be told.

    Raises:
        OperatorProblem: ``invalid``.
    """
    if not wish.targets:
        raise OperatorProblem(Kind.INVALID, "no target is named")
    if wish.window is not None:
        begin, end = wish.window
        if begin >= end:
            raise OperatorProblem(Kind.INVALID, f"--to {show(end)}: must be after --from {show(begin)}")
        if end <= now:
            raise OperatorProblem(Kind.INVALID, f"--to {show(end)}: is past, it is {show(now)}")


def model_of(device: Device) -> str:
    """Return a device's ``make/model``."""
    return f"{device.identity.make}/{device.identity.model}"


def choose(device: Device, targets: Sequence["Target"]) -> "Target":
    """Return the target of the highest counter that is for a device's model.

    Raises:
        OperatorProblem: ``conflict``: none is.
    """
    fitting = [one for one in targets if one.is_for(model_of(device))]
    if fitting:
        return max(fitting, key=lambda one: one.counter)
    named = ", ".join(f"{one.path} (for {', '.join(one.models or ())})" for one in targets)
    raise OperatorProblem(Kind.CONFLICT, f"{device.id} is a {model_of(device)}: not one of {named}")


def obeys(device: Device) -> None:
    """Raise OperatorProblem (``held``, ``conflict``) unless a device may be told to run something."""
    if device.state in {State.PENDING, State.APPROVED}:
        raise OperatorProblem(Kind.HELD, f"{device.id} is {device.state}: it takes upgrades once it is registered")
    if device.state is not State.REGISTERED:
        raise OperatorProblem(Kind.CONFLICT, f"{device.id} is {device.state}: it takes no upgrades")


def planned(
    device: Device, target: "Target", counts: Assignment | None, got: Upgrade | None, window: Window | None
) -> tuple[tuple[Wanted, ...], Window | None] | None:
    """Return what a device shall run from now on, and when installing may begin; None where that is so already.

    What else it shall run stays. counts: its assignment; got: how far the software of this name got.

    Raises:
        OperatorProblem: ``held``, ``conflict``, ``invalid``: it may not be told that.
    """
    obeys(device)
    wanted = _wanted(target)
    if not _is_higher(device, wanted, got):
        return None
    others = () if counts is None else tuple(one for one in counts.wanted if one.name != wanted.name)
    if len(others) >= MAX_RELEASES:
        told = f"{device.id} shall run {len(others)} pieces of software already, {MAX_RELEASES} at most: cancel first"
        raise OperatorProblem(Kind.CONFLICT, told)
    standing = counts.window if counts is not None and others else None
    window = window or standing
    same = counts is not None and counts.of(wanted.name) == wanted and counts.window == window
    if same and (got is None or got.phase is not Phase.REFUSED):
        return None
    return tuple(sorted((*others, wanted), key=lambda one: one.name)), window


def _is_higher(device: Device, wanted: Wanted, got: Upgrade | None) -> bool:
    """C8: no downgrade, and none again. False: it runs just this already.

    Raises:
        OperatorProblem: ``conflict``, naming both.
    """
    held = None if got is None else got.committed
    if held is None or wanted.counter > held.counter:
        return True
    if (wanted.counter, wanted.sha256) == (held.counter, held.sha256):
        return False
    told = (
        f"{device.id}: {wanted.name} {wanted.version} has counter {wanted.counter}: "
        f"the device runs {held.version}, counter {held.counter}, and never goes back"
    )
    raise OperatorProblem(Kind.CONFLICT, told)


def _wanted(target: "Target") -> Wanted:
    if not target.url:
        told = f"{target.path}: nothing serves its bytes; see [releases] in fleetward.toml"
        raise OperatorProblem(Kind.CONFLICT, told)
    found = Wanted(target.name, target.path, target.counter, target.version, target.sha256, target.length, target.url)
    try:
        Release.read(upgrade.release(found).document())
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"{target.path}: {refusal.detail}") from None
    return found
