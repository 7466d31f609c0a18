"""Asking MOSIP 1.2 each day whether it approves what devices are and run; hourly while it does not, or that changes.

What it said last stands in ``mosip-approvals.json``, where ``mosip status`` and ``doctor`` find it; nothing is refused
to a device for it, since what was withdrawn there its provider has to settle. Source: S2; approvals.py.
"""

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleetward_broker.durable import write_durably
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import EPOCH, parse, show
from fleetward_server.config import Config
from fleetward_server.mosip.approvals import Wanted, check, wanted
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.tokens import Tokens
from fleetward_server.problem import OperatorProblem
from fleetward_server.store import Store

log = logging.getLogger("fleetward.mosip")

FILE = "mosip-approvals.json"
DAILY, HOURLY, MINUTELY = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
"""How often the same is asked; how often one looks for more to ask, with devices and before there are any."""


@dataclass(slots=True)
class Watching:
    """One provider's. It asks at its first step, if there is anything to ask."""

    config: Config
    store: Store
    tokens: Tokens
    _look_at: datetime = field(init=False, default=EPOCH)
    _ask_at: datetime = field(init=False, default=EPOCH)
    _last: Wanted | None = field(init=False, default=None)

    def step(self, now: datetime) -> bool:
        """Ask, if it is time or something new is to be asked; say whether it was."""
        if self.config.mosip.profile != Profile.CRYPTO_ONLY or now < self._look_at:
            return False
        asked_for = wanted(self.store, self.config.mosip, now)
        nothing = not (asked_for.models or asked_for.runs)
        self._look_at = now + (MINUTELY if nothing else HOURLY)
        if nothing or (asked_for == self._last and now < self._ask_at):
            return False
        self._ask(asked_for, now)
        return True

    def _ask(self, asked_for: Wanted, now: datetime) -> None:
        try:
            found = check(self.tokens, asked_for, self.config.provider.id, now)
        except OperatorProblem as problem:
            log.warning("MOSIP's approvals are not known", extra={"detail": problem.message})
            return
        lacking = [f"{one.kind} {one.name}: {one.state}" for one in found if not one.good]
        self._last, self._ask_at = asked_for, now + (HOURLY if lacking else DAILY)
        said = {"at": show(now), "asked": len(found), "lacking": lacking}
        write_durably(self.config.folder / FILE, json.dumps(said, indent=2).encode() + b"\n")
        if lacking:
            log.warning("not approved by MOSIP", extra={"detail": "; ".join(lacking)[:1000]})


@dataclass(frozen=True, slots=True)
class Approved:
    """What MOSIP said last. asked: of how many things; lacking: which of them it does not approve."""

    at: datetime
    asked: int
    lacking: tuple[str, ...]


def approved(folder: Path) -> Approved | None:
    """Return what was written down; None where nothing was, or nothing readable."""
    try:
        told: dict[str, Any] = json.loads((folder / FILE).read_bytes())
        return Approved(parse(str(told["at"])), int(told["asked"]), tuple(map(str, told["lacking"])))
    except (OSError, ValueError, KeyError, TypeError, Refused):
        return None
