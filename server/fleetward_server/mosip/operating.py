"""What an operator sees of MOSIP, and the one thing there is to do: have a refused task told again."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetward_server.config import Config
from fleetward_server.mosip import answers, queue
from fleetward_server.mosip.exchange import WHYS
from fleetward_server.mosip.profiles import DEVICE_CODE
from fleetward_server.mosip.queue import OPEN, Task, TaskEvent, TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.watching import approved
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.store import Store

FILE = "mosip.json"
COLUMNS = ("number", "device_id", "act", "state", "attempts", "code", "detail", "device_code", "next_at")
CERTIFICATES = ("env", "domain_uri", "thumbprint", "not_after", "source", "fetched_at", "next_at", "code", "detail")
_MEANINGS = {**answers.DONE_BY_CODE, **answers.STALE, **answers.AGAIN, **answers.TOKEN, **answers.REFUSED}
_MEANINGS |= {**WHYS, **answers.OWN}


def status(config: Config, store: Store) -> dict[str, Any]:
    """Return how things stand with MOSIP. tasks: ``<act> <state>`` -> how many, of the profile in use.

    not_approved: what MOSIP 1.2 does not approve, None while it was not asked.
    """
    table = config.mosip
    counted = [row for row in store.mosip_counts() if row[0] == table.profile]
    found = {"profile": table.profile, "url": table.url} | reached(config.folder)
    dead = store.mosip_tasks(TaskState.DEAD, limit=1)
    last = f"{dead[0].code}: {explained(dead[0].code or '')}" if dead else None
    found |= {"tasks": {f"{act} {state}": many for _, act, state, many in counted}, "last_refusal": last}
    asked = approved(config.folder)
    if table.profile == Profile.CRYPTO_ONLY:
        found["not_approved"] = None if asked is None else list(asked.lacking)
    return found


def reached(folder: Path) -> dict[str, Any]:
    """Return what the connector last said of MOSIP: reached, code, detail, since; each None where it said nothing."""
    try:
        told = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        told = {}
    return {name: told.get(name) for name in ("reached", "code", "detail", "since")}


def explained(code: str) -> str:
    """Return what a code of MOSIP's, or of ours on the way there, means."""
    return _MEANINGS.get(code, "not documented")


def shown(found: Iterable[object], columns: Sequence[str] = COLUMNS) -> list[dict[str, Any]]:
    """Return tasks, or what else has these columns, as rows to print."""
    return [{name: getattr(one, name) for name in columns} for one in found]


def again(store: Store, number: int, now: datetime, device_code: str | None = None) -> Task:
    """Return a refused task, due now.

    Raises:
        OperatorProblem: ``not-found``; ``conflict``: it is not refused, or something else is told of its device;
            ``invalid``: no device code.
    """
    task = store.mosip_task(number)
    if task is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"no task {number}")
    if task.state is not TaskState.DEAD:
        raise OperatorProblem(Kind.CONFLICT, f"task {number} is {task.state}: only one that is dead is told again")
    others = [one.number for one in store.mosip_tasks(device_id=task.device_id) if one.state in OPEN]
    if others:
        raise OperatorProblem(Kind.CONFLICT, f"task {others[0]} of the same device is open")
    if device_code is not None and DEVICE_CODE.fullmatch(device_code) is None:
        raise OperatorProblem(Kind.INVALID, f"--device-code {device_code!r}: expected 1..36 printable ASCII characters")
    code = task.device_code if device_code is None else device_code
    return queue.advance(task, TaskEvent.RETRY, now, next_at=now, refusals=0, asked=None, device_code=code)


def refused(store: Store) -> tuple[int, ...]:
    """Return the numbers of all tasks that lie aside, oldest first."""
    return tuple(reversed([task.number for task in store.mosip_tasks(TaskState.DEAD, limit=100_000)]))
