"""Telling MOSIP: one thing at a time, written down before it is sent and again when it is answered.

A crash at any point is a repetition, never a loss or a double: what was sent and not written down is sent again, and
MOSIP says that it knows it already. While MOSIP is away one task tries for all, less and less often, and costs none of
them anything. Source: S2; deploy/decisions/0001 "Commit, then acknowledge, then send".
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.line import backoff_s
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.moment import EPOCH
from fleetward_server.changes import AddAudit, PutCommand, PutDevice
from fleetward_server.mosip import queue
from fleetward_server.mosip.answers import STALE, Fault, Meaning, errors_of
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.profiles import Told, Voice, code_found, is_about, is_fresh, search
from fleetward_server.mosip.queue import ASK_LIFE, Act, Task, TaskEvent, TaskState
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.state import AuditEntry, Command, Device, Presence
from fleetward_server.store import Store, Unit
from fleetward_server.store.mosip import Unlike

log = logging.getLogger("fleetward.mosip")

MOST_ASKING = 50
"""Devices asked for device info at once: no more than can be told while their answers are fresh."""
LATER = timedelta(seconds=5)
WHOLE_LOOK = timedelta(minutes=10)
"""How often every device is compared; in between, those that lack a code or are gone."""
NO_CODE = Fault("no-device-code", "MOSIP's code for it is not known; give it with: fleetward mosip retry --device-code")
NO_INFO = Fault("no-device-info", "the device was asked for device info and sent none that is fresh")
OWN_MISTAKE = Fault("own-mistake", "our own code stumbled over it; see the log")
NO_TRUST_PROVIDER = Fault("no-trust-provider", "an L1 device needs [mosip] trust_provider_id")


@dataclass(slots=True)
class Pause:
    """MOSIP is away. failures: in a row; until: nothing is sent before; why: for whoever asks."""

    failures: int = 0
    until: datetime | None = None
    why: Fault | None = None


class Connector:
    """One profile's queue, and the way to its MOSIP."""

    def __init__(self, store: Store, voice: Voice, tokens: Tokens, chance: Callable[[], float] = queue.chance) -> None:
        """Work on ``store``. chance: uniform in [0, 1), for the waits between tries."""
        self._store = store
        self._voice = voice
        self._tokens = tokens
        self._chance = chance
        self._last_id: str | None = None
        self._current: Task | None = None
        self._whole_at = EPOCH
        self.pause = Pause()

    @property
    def profile(self) -> Profile:
        """Which MOSIP it speaks to."""
        return self._voice.profile

    def plan(self, now: datetime) -> int:
        """Make the tasks that the register asks for, and drop those that it no longer does; return how many changed."""
        changed, whole = 0, now >= self._whole_at
        self._whole_at = now + WHOLE_LOOK if whole else self._whole_at
        for unlike in self._store.mosip_unlike(self.profile, whole=whole):
            found = queue.due(unlike.state, unlike.last, self.profile)
            if found.drop or found.act is not None:
                self._make(unlike, found, now)
                changed += 1
        return changed

    def _make(self, unlike: Unlike, found: queue.Due, now: datetime) -> None:
        with self._store.unit() as unit:
            last, device = unlike.last, unit.device(unlike.device_id)
            if device is None or device.state is not unlike.state:
                return  # Somebody was quicker; the next look sees it.
            if found.drop and last is not None:
                unit.put_mosip_task(queue.advance(last, TaskEvent.DROP, now))
            if found.act is not None:
                unit.put_mosip_task(queue.new_task(device.id, self.profile, found.act, now, device.device_code))

    def step(self, now: datetime) -> bool:
        """Do one thing that is due; say whether there was one."""
        self._current = None
        if self.pause.until is not None and now < self.pause.until:
            return False
        task = self._store.mosip_due(self.profile, now)
        device = None if task is None else self._store.device(task.device_id)
        if task is None or device is None:
            return False
        self._current = task
        if task.act is Act.REGISTER and self.profile is not Profile.CRYPTO_ONLY:
            self._register(task, device, now)
        elif task.act is Act.REGISTER:
            # MOSIP 1.2 and later is told of no single device: its serial number is its code.
            self._done(task, Told(device.identity.serialNo), now)
        elif task.act is Act.DEREGISTER and task.device_code is None:
            self._find_code(task, device, now)
        else:
            self._send(task, device, now)
        self._current = None
        return True

    def set_aside(self, now: datetime) -> None:
        """Let others go before the task at which our own code stumbled, if it was at one."""
        if self._current is not None:
            task = self._store.mosip_task(self._current.number)
            if task is not None and task.state in queue.OPEN:
                self._again(replace(task, refusals=queue.MOST_UNKNOWN), OWN_MISTAKE, now)

    def _register(self, task: Task, device: Device, now: datetime) -> None:
        if device.certification is Certification.L1 and not self._voice.table.trust_provider_id:
            self._refuse(task, NO_TRUST_PROVIDER, now)
        elif is_fresh(device.device_info, now) and not _found_stale(task):
            self._send(task, device, now)
        elif task.state is TaskState.ASKING:
            self._again(replace(task, asked=None), NO_INFO, now)
        else:
            self._ask_device(task, device, now)

    def _ask_device(self, task: Task, device: Device, now: datetime) -> None:
        """Ask for device info that MOSIP will take: what is there is older than its window."""
        if device.presence is not Presence.ONLINE or self._store.mosip_asking(self.profile) >= MOST_ASKING:
            self._keep(queue.advance(task, TaskEvent.AGAIN, now, next_at=now + LATER))
            return
        command = self._order(device, now)
        with self._store.unit() as unit:
            unit.apply([PutCommand(command)])
            asking = queue.advance(task, TaskEvent.ASK, now, next_at=now + ASK_LIFE, asked=command.id)
            unit.put_mosip_task(asking)

    def _order(self, device: Device, now: datetime) -> Command:
        self._last_id = next_id(now, self._last_id, secrets.token_bytes(RANDOM_BYTES))
        return queue.collect_info(self._last_id, device.id, now)

    def _find_code(self, task: Task, device: Device, now: datetime) -> None:
        """Look for what MOSIP calls a device whose registration was answered into the void."""
        if device.device_code is not None:
            self._keep(replace(task, device_code=device.device_code))
        elif self.profile is not Profile.PMS:
            self._refuse(task, NO_CODE, now)
        else:
            self._search(task, device, now)

    def _search(self, task: Task, device: Device, now: datetime) -> None:
        answer = self._exchange(task, search(device, now), now)
        if answer is None:
            return
        found = errors_of(answer)
        if found:
            self._failed(task, found, now)
            return
        row = code_found(answer, device)
        if row.code is not None:
            self._keep(replace(task, device_code=row.code))
        elif row.others:
            self._refuse(task, NO_CODE, now)
        else:
            self._done(task, Told(), now)

    def _send(self, task: Task, device: Device, now: datetime) -> None:
        try:
            asked = self._voice.asked(task, device, now)
        except KeyUnavailable as problem:
            self._away(task, Fault("key-away", str(problem)), now)
            return
        # Written down first: whatever happens from here on, it may have reached MOSIP.
        task = replace(task, attempts=task.attempts + 1)
        self._keep(task)
        answer = self._exchange(task, asked, now)
        if answer is None:
            return
        try:
            told = self._voice.told(task, answer, now)
            is_about(told, device)
        except Refused as refusal:
            self._again(task, Fault("bad-answer", f"{refusal.code}: {refusal.detail}"), now)
            return
        if isinstance(told, Told):
            self._done(task, told, now)
        else:
            self._failed(task, told, now)

    def _exchange(self, task: Task, asked: Asked, now: datetime) -> Answer | None:
        """Ask; while there is no answer of MOSIP's, everybody waits."""
        try:
            answer = self._tokens.ask(asked, now)
        except Unreachable as why:
            self._away(task, Fault(why.code, why.detail), now, timedelta(seconds=why.again_s))
            return None
        except NoToken as why:
            self._away(task, why.fault, now)
            return None
        self.pause = Pause()
        return answer

    def _failed(self, task: Task, found: tuple[Fault, ...], now: datetime) -> None:
        means, fault = self._voice.meant(found, task, now)
        match means:
            case Meaning.DONE:
                self._known_already(task, fault, now)
            case Meaning.REFUSED:
                self._refuse(task, fault, now)
            case Meaning.UNKNOWN if task.refusals + 1 >= queue.MOST_UNKNOWN:
                self._refuse(task, fault, now)
            case Meaning.TOKEN:
                self._away(task, fault, now)
            case _:
                self._again(task, fault, now)

    def _known_already(self, task: Task, fault: Fault, now: datetime) -> None:
        """It was done before, and its answer lost; partner management can still be asked for the code."""
        told = Told(task.device_code)
        device = self._store.device(task.device_id)
        if task.act is Act.REGISTER and self.profile is Profile.PMS and device is not None:
            answer = self._exchange(task, search(device, now), now)
            if answer is None:
                return
            told = Told(code_found(answer, device).code)
        self._done(task, told, now, fault)

    def _done(self, task: Task, told: Told, now: datetime, fault: Fault | None = None) -> None:
        code = told.device_code or task.device_code
        said = {"code": None, "detail": None} if fault is None else {"code": fault.code, "detail": fault.detail}
        done = queue.advance(task, TaskEvent.DONE, now, device_code=code, **said)
        with self._store.unit() as unit:
            unit.put_mosip_task(done)
            self._name_device(unit, done)
            unit.apply([_entry(done, f"mosip-{task.act}", fault, now)])
        log.info("told", extra={"act": task.act, "device": task.device_id, "code": done.code or ""})

    def _name_device(self, unit: Unit, task: Task) -> None:
        """Give a device the code MOSIP knows it by, or take it: a device without one is looked at again."""
        device = unit.device(task.device_id)
        if device is None:
            return
        code = {Act.REGISTER: task.device_code, Act.UNBLOCK: device.identity.serialNo}.get(task.act)
        if device.device_code != code:
            unit.apply([PutDevice(replace(device, device_code=code))])
        if code is not None and device.presence is Presence.ONLINE:
            # Its next device info shows that it does not know its code, and it is told (inventory.py).
            unit.apply([PutCommand(self._order(device, task.changed_at))])

    def _refuse(self, task: Task, fault: Fault, now: datetime) -> None:
        """Put it aside with the reason: no repetition would change it, an operator can."""
        said = {"code": fault.code, "detail": fault.detail, "refusals": task.refusals + 1}
        dead = queue.advance(task, TaskEvent.REFUSE, now, **said)
        with self._store.unit() as unit:
            unit.put_mosip_task(dead)
            unit.apply([_entry(dead, f"mosip-{task.act}-refused", fault, now)])
        log.error("refused", extra={"act": task.act, "device": task.device_id, "code": fault.code})

    def _again(self, task: Task, fault: Fault, now: datetime) -> None:
        """Try this one again later; others go on."""
        refusals = task.refusals + 1
        said = {"code": fault.code, "detail": fault.detail, "refusals": refusals}
        self._keep(queue.advance(task, TaskEvent.AGAIN, now, next_at=now + self._wait(refusals), **said))
        log.warning("not taken", extra={"act": task.act, "device": task.device_id, "code": fault.code})

    def _away(self, task: Task, fault: Fault, now: datetime, least: timedelta = timedelta()) -> None:
        """MOSIP, or our key, is away: everybody waits, ``least`` at least, and the task is what it was."""
        failures = self.pause.failures + 1
        self.pause = Pause(failures, now + max(self._wait(failures), least), fault)
        self._keep(queue.advance(task, TaskEvent.AGAIN, now, next_at=now, code=fault.code, detail=fault.detail))
        log.warning("MOSIP is away", extra={"code": fault.code, "detail": fault.detail, "failures": failures})

    def _wait(self, attempt: int) -> timedelta:
        first, most = queue.AGAIN_FIRST_S, queue.AGAIN_MOST_S
        return timedelta(seconds=backoff_s(attempt - 1, self._chance(), first_s=first, most_s=most))

    def _keep(self, task: Task) -> None:
        with self._store.unit() as unit:
            unit.put_mosip_task(task)


def _found_stale(task: Task) -> bool:
    """MOSIP's clock and ours differ: what is fresh to us was not to it, and no repetition makes it so."""
    return task.state is TaskState.WAITING and task.code in STALE


def _entry(task: Task, action: str, fault: Fault | None, now: datetime) -> AddAudit:
    detail = task.device_code or ""
    return AddAudit(AuditEntry(now, queue.ACTOR, action, task.device_id, "" if fault is None else fault.code, detail))
