"""What a journal (``issued.log``) tells a restored register: certificates issued and devices silenced after its backup.

A line is a claim. A certificate is adopted only if our own device CA made it for that very device; of the rest of a
line only what a missing record needs is taken, and a silence, since that can lock nobody in. Source: S1, S5;
store/journal.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleetward_schemas.certificates import Anchors, Unit, key_thumbprint, public_key, read_certificate, thumbprint
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import device_id
from fleetward_schemas.moment import EPOCH
from fleetward_schemas.topics import DeviceId
from fleetward_server.authority import subject_of
from fleetward_server.changes import AddAudit, AddCertificates, BindFtm, Change, PutDevice, RevokeCertificates
from fleetward_server.state import AuditEntry, Certificate, CertificateState, Device
from fleetward_server.store import Store, journal
from fleetward_server.store import Unit as Rows
from fleetward_server.store.journal import Entry, JournalDamaged, Leaf

_SILENT = frozenset({State.REFUSED, State.REVOKED, State.RETIRED})
_HELD = frozenset({State.QUARANTINED})


@dataclass(slots=True)
class Adopted:
    """What was taken over. damaged: lines that could not be read or prove nothing."""

    certificates: int = 0
    devices: int = 0
    silenced: int = 0
    damaged: int = 0


@dataclass(slots=True)
class _Told:
    """What all lines together say of one device: the last word on it, and each key's last certificate.

    The last: where a commit failed after its line was written, the same keys were certified again.
    """

    device: Device
    leaves: dict[str, Certificate] = field(default_factory=dict)


def adopt(store: Store, raw: Iterable[bytes], own: Anchors, actor: str, now: datetime) -> Adopted:
    """Bring the lines of one or more journals into the register. Doing it twice changes nothing."""
    done = Adopted()
    for told in _gathered(raw, own, now, done):
        with store.unit() as rows:
            # By itself, for certificates refer to it.
            rows.apply(_missing(rows, told, now, done))
        with store.unit() as rows:
            rows.apply(_changes(rows, told, actor, now, done))
    return done


def _gathered(raw: Iterable[bytes], own: Anchors, now: datetime, done: Adopted) -> list[_Told]:
    read: list[tuple[Device, list[Certificate]]] = []
    for line in journal.lines(raw):
        try:
            entry = journal.read(line)
            read.append((entry.device, _proven(entry, own, now)))
        except JournalDamaged:
            done.damaged += 1
    found: dict[DeviceId, _Told] = {}
    for device, certificates in sorted(read, key=lambda one: one[0].changed_at or EPOCH):
        told = found.setdefault(device.id, _Told(device))
        told.device = device
        told.leaves |= {one.key_thumbprint: one for one in certificates}
    return list(found.values())


def _proven(entry: Entry, own: Anchors, now: datetime) -> list[Certificate]:
    """Return a line's certificates; those that ended meanwhile are of no more use.

    Raises:
        JournalDamaged: one of them is not our device CA's work for this device.
    """
    if device_id(entry.device.identity) != entry.device.id:
        raise JournalDamaged("the identity is another device's")
    made = [_certificate(entry.device.id, leaf, own) for leaf in entry.leaves]
    return [one for one in made if one.not_after > now]


def _certificate(owner: DeviceId, leaf: Leaf, own: Anchors) -> Certificate:
    try:
        parsed = read_certificate(leaf.der)
        # Judged at its own beginning: whether it was ours then, not whether it still counts.
        chain = own.verify((leaf.der, leaf.authority), parsed.not_valid_before_utc)
        key = key_thumbprint(public_key(parsed))
    except Refused as refusal:
        raise JournalDamaged(refusal.detail) from None
    if (chain.name, chain.unit) != (subject_of(leaf.use, owner), Unit.DEVICE):
        raise JournalDamaged(f"a certificate of {chain.name!r} under {chain.unit!r}")
    return Certificate(
        thumbprint=thumbprint(leaf.der),
        device_id=owner,
        use=leaf.use,
        state=CertificateState.ISSUED,
        serial=parsed.serial_number,
        key_thumbprint=key,
        pair=leaf.pair,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        der=leaf.der,
        authority=leaf.authority,
    )


def _missing(rows: Rows, told: _Told, now: datetime, done: Adopted) -> list[Change]:
    """Make the record of a device that has certificates and that the backup does not know."""
    if not told.leaves or rows.device(told.device.id) is not None:
        return []
    done.devices += 1
    return [PutDevice(replace(told.device, state=State.REGISTERED, created_at=now, changed_at=now))]


def _changes(rows: Rows, told: _Told, actor: str, now: datetime, done: Adopted) -> list[Change]:
    before = rows.device(told.device.id)
    if before is None:
        return []
    taken = rows.taken_keys(set(told.leaves)) if told.leaves else frozenset()
    fresh = tuple(one for key, one in told.leaves.items() if key not in taken)
    after = _record(before, told.device, now, certified=bool(fresh))
    silenced = before.state is not after.state and after.state in _SILENT
    changes: list[Change] = [PutDevice(after)] if after != before else []
    if after.ftm_key is not None and rows.ftm_owner(after.ftm_key) is None:
        changes.append(BindFtm(after.ftm_key, after.id))
    if fresh:
        changes.append(AddCertificates(fresh))
    if after.state in {State.REVOKED, State.RETIRED} and (fresh or silenced):
        changes.append(RevokeCertificates(after.id))
    done.certificates += len(fresh)
    done.silenced += silenced
    return [*changes, *_entries(after, fresh, actor, now, silenced=silenced)]


def _record(before: Device, told: Device, now: datetime, *, certified: bool) -> Device:
    """Return the record as it should stand."""
    after = replace(before, ftm_key=before.ftm_key or told.ftm_key)
    if told.state in _SILENT and after.state not in _SILENT:
        return replace(after, state=told.state, changed_at=now)
    if told.state in _HELD and after.state is State.REGISTERED:
        return replace(after, state=told.state, reason=Reason.QUARANTINED, changed_at=now)
    if certified and after.state in {State.PENDING, State.APPROVED}:
        return replace(after, state=State.REGISTERED, reason=None, changed_at=now)
    return after


def _entries(
    device: Device, fresh: tuple[Certificate, ...], actor: str, now: datetime, *, silenced: bool
) -> Iterator[AddAudit]:
    for one in fresh:
        yield AddAudit(AuditEntry(now, actor, "adopted", device.id, "issued after the backup", one.thumbprint))
    if silenced:
        yield AddAudit(AuditEntry(now, actor, "adopted", device.id, "silenced after the backup", device.state))
