"""What may be released: a path once and never otherwise, and a counter that rises for every device it is for.

The same rules at the provider's host, where a request is made, and beside the offline keys, where it is signed.
Source: C8; wire, section "Upgrades" 3 and 5.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import TargetFile

from fleetward_schemas.upgrade import Custom
from fleetward_server.problem import Kind, OperatorProblem

ROOT_LIFE = timedelta(days=365)
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(days=1)
HALF = 2
"""Signed again when this part of its life is over."""


class Heights:
    """The highest counter of each name, for the devices of each model and for those of all."""

    def __init__(self, known: Iterable[Custom]) -> None:
        """Begin with these."""
        self._of_model: dict[tuple[str, str], Custom] = {}
        self._of_all: dict[str, Custom] = {}
        self._any: dict[str, Custom] = {}
        for one in known:
            self.add(one)

    def add(self, one: Custom) -> None:
        """Count one more."""
        _raise(self._any, one.name, one)
        if one.models is None:
            _raise(self._of_all, one.name, one)
        for model in one.models or ():
            _raise(self._of_model, (one.name, model), one)

    def above(self, one: Custom) -> Custom | None:
        """Return what some device that ``one`` is for could have, and could not leave for it."""
        if one.models is None:
            found = [self._any.get(one.name)]
        else:
            found = [self._of_all.get(one.name), *(self._of_model.get((one.name, model)) for model in one.models)]
        # C8: no downgrade. A device commits one counter a name, whichever target it was of.
        return next((other for other in found if other is not None and other.counter >= one.counter), None)


def _raise(heights: dict[Any, Custom], key: object, one: Custom) -> None:
    if key not in heights or heights[key].counter < one.counter:
        heights[key] = one


def may_release(wanted: Mapping[str, Custom], released: Mapping[str, Custom], ever: Iterable[Custom] = ()) -> None:
    """Refuse what a device could not take. wanted, released: by path. ever: others that were signed before.

    Raises:
        OperatorProblem: ``conflict``: a path is taken. ``held``: a counter does not rise.
    """
    heights = Heights([*released.values(), *ever])
    for path, custom in wanted.items():
        if path in released:
            raise OperatorProblem(Kind.CONFLICT, f"{path}: released already; what is released never changes")
        other = heights.above(custom)
        if other is not None:
            raise OperatorProblem(
                Kind.HELD,
                f"{path}: counter {custom.counter} of {custom.name}: {other.version} has {other.counter} already"
                " for a model that it is for; give it a higher one",
            )
        heights.add(custom)


def target_file(path: str, length: int, sha256_hex: str, custom: Custom) -> TargetFile:
    """Return a target as a bin has it."""
    said = {name: value for name, value in custom.document().items() if value is not None}
    return TargetFile(length, {"sha256": sha256_hex}, path, {"custom": said})


def end(now: datetime, life: timedelta) -> datetime:
    """Return when what is signed now ends: in whole seconds, as TUF has it."""
    return (now + life).replace(microsecond=0)
