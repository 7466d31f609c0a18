"""Presence at the server: birth and will of a session, signed; and the moment a new key takes the old one's place.

A will is believed once, only while its session is the latest ``online``: the session decides, not the number, since a
will is signed before the ``online`` it follows. Source: protocol section 5 "Operation", "First contact", "Rotation".
"""

from dataclasses import replace

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.presence import Status
from fleetward_server.changes import AddAudit, Change, Cut, PutDevice, TakeCertificates
from fleetward_server.encryption import told
from fleetward_server.state import AuditEntry, CertificateState, Device, Presence
from fleetward_server.turn import Known, Policy, Said, Turn
from fleetward_server.upgrade_state import AssignmentWanted


def on_status(said: Said, known: Known, policy: Policy) -> Turn:
    """Take one ``online`` or ``offline``."""
    if not isinstance(said.body, Status) or known.device is None:
        raise LocalMistake("on_status was given another kind, or no device")
    if said.body.state == "online":
        turn = _online(said, known.device, said.body)
        words = told(known.device.id, said.digital_id, policy) if known.device.state is State.REGISTERED else ()
        return turn._replace(replies=(*turn.replies, *words))
    return _offline(said, known.device, said.body)


def _online(said: Said, device: Device, status: Status) -> Turn:
    moved = said.digital_id != device.digital_id
    device = replace(
        device,
        presence=Presence.ONLINE,
        presence_at=said.arrived_at,
        seen_at=said.arrived_at,
        session=status.session,
        digital_id=said.digital_id,
        previous_digital_id=device.digital_id if moved else device.previous_digital_id,
    )
    changes: tuple[Change, ...] = ()
    certificate = said.speaker.certificate
    if certificate is not None and certificate.state is CertificateState.ISSUED:
        # From this commit on the old keys are unknown signers; the broker is told soon.
        old = (Cut(device.id, kick=False, since=said.arrived_at),) if device.enrolments else ()
        device = replace(device, enrolments=device.enrolments + 1, approved_key=None, asking_key=None, reissue=False)
        entry = AuditEntry(
            said.arrived_at, f"device:{device.id}", "took-keys", device.id, detail=certificate.thumbprint
        )
        changes = (TakeCertificates(device.id, certificate.pair), AddAudit(entry), *old)
    wanted = AssignmentWanted(device.id, said.arrived_at)
    return Turn(changes=(PutDevice(device), *changes, wanted), acks=(said.id,))


def _offline(said: Said, device: Device, status: Status) -> Turn:
    if status.session != device.session or device.presence is not Presence.ONLINE:
        return Turn()
    device = replace(device, presence=Presence.OFFLINE, presence_at=said.arrived_at)
    return Turn(changes=(PutDevice(device),), acks=(said.id,))
