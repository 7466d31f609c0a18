"""Asking MOSIP 1.2 each day whether it approves what devices are and run, and hourly while it does not.

What it said last stands in ``mosip-approvals.json``, where ``mosip status`` and ``doctor`` find it; nothing is refused
to a device for it, since what was withdrawn there its provider has to settle. Source: S2; approvals.py.
"""

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleetward_broker.signers import write_durably
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import EPOCH, parse, show
from fleetward_server.config import Config
from fleetward_server.mosip.approvals import check, wanted
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.tokens import Tokens
from fleetward_server.problem import OperatorProblem
from fleetward_server.store import Store

log = logging.getLogger("fleetward.mosip")

FILE = "mosip-approvals.json"
DAILY, HOURLY = timedelta(days=1), timedelta(hours=1)


@dataclass(slots=True)
class Watching:
    """One provider's. It asks at its first step unless it was asked within the day."""

    config: Config
    store: Store
    tokens: Tokens
    _next_at: datetime = field(init=False, default=EPOCH)

    def __post_init__(self) -> None:
        """Go on from what was written down."""
        last = approved(self.config.folder)
        if last is not None:
            self._next_at = last.at + (HOURLY if last.lacking else DAILY)

    def step(self, now: datetime) -> bool:
        """Ask, if it is time; say whether it was."""
        if self.config.mosip.profile != Profile.CRYPTO_ONLY or now < self._next_at:
            return False
        asked_for = wanted(self.store, self.config.mosip, now)
        try:
            found = check(self.tokens, asked_for, self.config.provider.id, now)
        except OperatorProblem as problem:
            self._next_at = now + HOURLY
            log.warning("MOSIP's approvals are not known", extra={"detail": problem.message})
            return True
        lacking = [f"{one.kind} {one.name}: {one.state}" for one in found if not one.good]
        self._next_at = now + (HOURLY if lacking else DAILY)
        said = {"at": show(now), "asked": len(found), "lacking": lacking}
        write_durably(self.config.folder / FILE, json.dumps(said, indent=2).encode() + b"\n")
        if lacking:
            log.warning("not approved by MOSIP", extra={"detail": "; ".join(lacking)[:1000]})
        return True


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
