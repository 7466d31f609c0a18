"""The operator on the provider's own host: straight on the store of the provider's folder.

Every act is one transaction and names its actor and reason in the audit. Source: S5.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_schemas.commands import Step
from fleetward_schemas.foreign import Leniency
from fleetward_schemas.identity import DigitalId
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.topics import DeviceId
from fleetward_server import admission, approval, ftm_root, revocation
from fleetward_server.admission import Diff, Record
from fleetward_server.changes import Cut, PutCommand, PutDevice, RevokeCertificates
from fleetward_server.generations import AuthorityProblem
from fleetward_server.keeper import Keeper
from fleetward_server.listing import Fields, Listed
from fleetward_server.mosip import operating
from fleetward_server.mosip.queue import Task
from fleetward_server.orders import Order, has_room, obeys, order, superseded
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.reader import utc_now
from fleetward_server.state import Command, Device, FtmRoot, Model
from fleetward_server.store import (
    Unit,
)


class LocalOperator(Keeper):
    """An operator with the provider's folder at hand; opens the store at the first act."""

    def __init__(self, folder: Path, actor: str, now: Callable[[], datetime] = utc_now) -> None:
        """Act in ``folder`` as ``actor``, which the audit shows as ``operator:<actor>``."""
        super().__init__(folder, actor, now)
        self._last_id: str | None = None

    def import_list(self, rows: Sequence[Fields], *, dry_run: bool, places: Sequence[str] = ()) -> Diff:
        """Bring the provider's list in, whole or not at all; a dry run returns its errors.

        Raises:
            OperatorProblem: ``invalid``: one line per error, the first of them.
        """
        now = self._now()
        # Before the lock is taken: a long list takes a while, and the server would wait for as long.
        found = admission.read(rows, places, self.config.provider.id, now)
        with self.opened() as store, store.glance() if dry_run else store.unit() as unit:
            unit.prefetch((one.id for one in found if isinstance(one, Listed)), ())
            made = admission.plan(found, lambda listed: _record(unit, listed), now)
            diff = made.diff()
            if diff.errors and not dry_run:
                raise OperatorProblem(Kind.INVALID, "\n".join(admission.first(diff.errors)))
            if not dry_run:
                unit.apply(PutDevice(device) for device in made.devices)
                unit.apply(self._entry("listed", one, "", "added") for one in diff.added)
                unit.apply(self._entry("listed", one.id, "", " ".join(one.columns)) for one in diff.changed)
        return diff

    def approve(self, device_id: DeviceId, reason: str, key: str | None = None) -> Device:
        """Approve a device with the key that asked. key: refuse unless just this one asked."""
        return self._decide(device_id, "approved", reason, lambda device: approval.approve(device, self._now(), key))

    def refuse(self, device_id: DeviceId, reason: str) -> Device:
        """Refuse a device that waits."""
        return self._decide(device_id, "refused", reason, lambda device: approval.refuse(device, self._now()))

    def revoke(self, device_id: DeviceId, reason: str) -> Device:
        """Put a device out for good: its certificates cease to count, its connection is cut, it may not come back.

        Done again, it tells the broker again and changes nothing else.

        Raises:
            OperatorProblem: ``conflict``: nothing to revoke. ``failed``: revoked, but the broker does not know it yet.
        """
        with self._unit() as unit:
            device = self._revoke(unit, device_id, reason)
        self._enforce([device_id], "run the command again")
        return device

    def quarantine(self, device_id: DeviceId, reason: str) -> Device:
        """Let a device report and do nothing else."""
        return self._decide(device_id, "quarantined", reason, lambda device: approval.quarantine(device, self._now()))

    def release(self, device_id: DeviceId, reason: str) -> Device:
        """End a quarantine."""
        return self._decide(device_id, "released", reason, lambda device: approval.release(device, self._now()))

    def reinstate(self, device_id: DeviceId, reason: str) -> Device:
        """Let a revoked or retired device ask anew."""
        return self._decide(device_id, "reinstated", reason, lambda device: approval.reinstate(device, self._now()))

    def tag(self, device_id: DeviceId, add: Sequence[str], remove: Sequence[str], reason: str = "") -> Device:
        """Put tags on a device and take tags off it."""
        with self._unit() as unit:
            return self._tag(unit, device_id, (add, remove), reason)

    def send_command(
        self, device_id: DeviceId, verb: str, params: Mapping[str, object], expires_in_s: int, reason: str
    ) -> Command:
        """Queue an order; the server sends it when the device is there."""
        wanted = order(verb, params, expires_in_s)
        with self._unit() as unit:
            return self._order(unit, device_id, wanted, reason)

    def add_model(self, of: DigitalId, reason: str) -> Model:
        """Approve the make and model of a digital ID."""
        return self._judge(of, reason, approved=True)

    def revoke_model(self, of: DigitalId, reason: str) -> Model:
        """Take the approval back; what is registered stays so."""
        if _model(of, approved=True) not in self.models():
            raise OperatorProblem(Kind.NOT_FOUND, f"{of.make} {of.model} of {of.deviceProviderId} is not approved")
        return self._judge(of, reason, approved=False)

    def add_ftm_root(self, pem: bytes, name: str, reason: str, allowed: tuple[Leniency, ...] = ()) -> FtmRoot:
        """Trust an FTM provider's root. allowed: what it and its chains may lack; said again, it is replaced."""
        root = ftm_root.read_root(pem, name, self._now(), allowed)
        same = [one for one in self.ftm_roots() if one.thumbprint == root.thumbprint and one.trusted]
        if any(one.leniencies == root.leniencies for one in same):
            raise OperatorProblem(Kind.CONFLICT, f"{root.thumbprint} is trusted already")
        return self._put_root(root, "ftm-root-added", reason)

    def revoke_ftm_root(self, text: str, reason: str) -> FtmRoot:
        """Trust it no more. text: its name, its thumbprint or the beginning of that."""
        return self._put_root(ftm_root.distrusted(self.ftm_roots(), text), "ftm-root-revoked", reason)

    def retry_mosip(self, number: int, reason: str, device_code: str | None = None) -> Task:
        """Have a task that MOSIP refused told again. device_code: what MOSIP calls the device, where that was lost."""
        with self.opened() as store:
            task = operating.again(store, number, self._now(), device_code)
            with store.unit() as unit:
                unit.put_mosip_task(task)
                unit.apply([self._entry("mosip-retried", task.device_id, reason, f"{task.act} {device_code or ''}")])
        return task

    def note_backup(self, manifest_hash: str) -> None:
        """Write into the audit that a copy of everything was made."""
        self._note("backed-up", "server", "", manifest_hash)

    def _decide(self, device_id: DeviceId, action: str, reason: str, decide: Callable[[Device], Device]) -> Device:
        with self._unit() as unit:
            return self._decided(unit, device_id, (action, decide), reason)

    # One device's part of an act, in a transaction that may hold more. Each raises before it has changed anything.
    # note: stands in the audit beside what is always said.

    def _decided(
        self, unit: Unit, device_id: DeviceId, what: tuple[str, Callable[[Device], Device]], reason: str, note: str = ""
    ) -> Device:
        action, decide = what
        device = decide(_known_device(unit, device_id))
        said = f"{device.approved_key or ''} {note}".strip()
        unit.apply([PutDevice(device), self._entry(action, device_id, reason, said)])
        return device

    def _revoke(self, unit: Unit, device_id: DeviceId, reason: str, note: str = "") -> Device:
        before = _known_device(unit, device_id)
        device = approval.revoke(before, self._now())
        if device is not before:
            entry = self._entry("revoked", device_id, reason, note)
            cut = Cut(device_id, kick=True, since=self._now())
            unit.apply([PutDevice(device), RevokeCertificates(device_id), cut, entry])
        return device

    def _tag(
        self, unit: Unit, device_id: DeviceId, moved: tuple[Sequence[str], Sequence[str]], reason: str, note: str = ""
    ) -> Device:
        before = _known_device(unit, device_id)
        device = approval.retag(before, *moved, self._now())
        if device is not before:
            said = " ".join([*device.tags, note]).strip()
            unit.apply([PutDevice(device), self._entry("tagged", device_id, reason, said)])
        return device

    def _order(self, unit: Unit, device_id: DeviceId, wanted: Order, reason: str, note: str = "") -> Command:
        now = self._now()
        obeys(_known_device(unit, device_id))
        self._last_id = next_id(now, self._last_id, secrets.token_bytes(RANDOM_BYTES))
        command = Command(
            id=self._last_id,
            device_id=device_id,
            verb=wanted.verb,
            params=json.dumps(dict(wanted.params), separators=(",", ":"), sort_keys=True),
            step=Step.QUEUED,
            actor=self._actor,
            reason=reason,
            created_at=now,
            expires_at=now + timedelta(seconds=wanted.expires_in_s),
        )
        has_room(unit, command)
        unit.apply(list(superseded(unit, command)))
        said = f"{command.id} {note}".strip()
        unit.apply([PutCommand(command), self._entry(f"command-{wanted.verb}", device_id, reason, said)])
        return command

    def _enforce(self, devices: Sequence[DeviceId], again: str) -> None:
        """Have the broker cut who is revoked. again: what to do when it cannot be told."""
        try:
            with self.opened() as store:
                revocation.publish(self.config, store, self._now())
            revocation.reload_and_kick(self.config, devices)
        except (AuthorityProblem, KeyUnavailable, NotTold, OSError) as problem:
            who = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
            told = f"{who}: revoked, but the broker does not know it yet: {problem}; {again}"
            raise OperatorProblem(Kind.FAILED, told) from None

    def _judge(self, of: DigitalId, reason: str, *, approved: bool) -> Model:
        model = _model(of, approved=approved)
        action = "model-approved" if approved else "model-revoked"
        with self._unit() as unit:
            unit.put_model(model)
            unit.apply([self._entry(action, model.provider_id, reason, f"{model.make} {model.model}")])
        return model

    def _put_root(self, root: FtmRoot, action: str, reason: str) -> FtmRoot:
        with self._unit() as unit:
            unit.put_ftm_root(root)
            unit.apply([self._entry(action, root.thumbprint, reason, " ".join([root.name, *root.leniencies]))])
        return root


def _record(unit: Unit, listed: Listed) -> Record:
    owner = None if listed.ftm_key is None else unit.ftm_owner(listed.ftm_key)
    return Record(unit.device(listed.id), owner)


def _known_device(unit: Unit, device_id: DeviceId) -> Device:
    device = unit.device(device_id)
    if device is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"no device {device_id!r}")
    return device


def _model(of: DigitalId, *, approved: bool) -> Model:
    return Model(of.deviceProviderId, of.make, of.model, of.type, of.deviceSubType, approved)
