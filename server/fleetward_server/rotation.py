"""Rotation at the server: certificates for new keys of a device that holds some, where an order stands open.

The same two keys get the same certificates; the old ones count until the first ``online`` under the new (presence.py).
A device never starts it: this server does, by command or by its plan. Source: S4a, C5; protocol section 5 "Rotation".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.commands import FINAL, Verb
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.rotation import Certificate as CertificateBody
from fleetward_schemas.rotation import Csr
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import DeviceId, down
from fleetward_server.changes import AddAudit, AddCertificates, PutDevice, Seen
from fleetward_server.enrol import csr_keys
from fleetward_server.settings import RotationTable
from fleetward_server.state import AuditEntry, Certificate, CertificateState, Use
from fleetward_server.turn import Issued, IssuePair, Known, Policy, Reply, Said, Turn

MOST_UNUSED = 3
"""Pairs that a device may have been certified and not have taken: more is nobody's crash."""


def on_csr(said: Said, known: Known, _: Policy) -> Turn:
    """Answer two requests: with certificates, the same for the same keys, or with the code why not.

    Raises:
        Refused: ``not-allowed``: no open order of this id, or the device may have none; ``bad-csr``.
    """
    if not isinstance(said.body, Csr) or known.device is None:
        raise LocalMistake("on_csr was given another kind, or no device")
    _ordered(said, known)
    device_key, transport_key = csr_keys(said.body)
    keys = (key_thumbprint(device_key), key_thumbprint(transport_key))
    held = {one.key_thumbprint: one for one in known.chains}
    if all(key in held for key in keys) and (held[keys[0]].use, held[keys[1]].use) == (Use.DEVICE, Use.TRANSPORT):
        return _certificate(said, (held[keys[0]], held[keys[1]]))
    if known.taken_keys:
        raise Refused(Code.BAD_CSR, "a key that the fleet knows already")
    if any(one.pair == said.id for one in known.chains):
        raise Refused(Code.BAD_CSR, "this request was answered for other keys")
    unused = {one.pair for one in known.chains if one.state is CertificateState.ISSUED}
    if len(unused) >= MOST_UNUSED:
        raise Refused(Code.NOT_ALLOWED, f"{len(unused)} pairs were certified and never used")
    floor = max((one.not_before for one in known.chains), default=None)
    return Turn(effects=(IssuePair(said.device_id, said.id, device_key, transport_key, floor),))


def _ordered(said: Said, known: Known) -> None:
    command, device = known.command, known.device
    if device is None or device.state is not State.REGISTERED:
        raise Refused(Code.NOT_ALLOWED, f"a device that is {device.state if device else 'unknown'} gets no certificate")
    ours = command is not None and command.device_id == said.device_id and command.verb == Verb.ROTATE_KEY
    if command is None or not ours or command.step in FINAL:
        raise Refused(Code.NOT_ALLOWED, "no order to rotate is open under this id")


def on_issued(said: Said, issued: Issued, known: Known, _: Policy) -> Turn:
    """Keep what the authority made, and answer. The old pair stays good until the first ``online`` under the new."""
    if known.device is None:
        raise LocalMistake("certificates for a device without a record")
    detail = issued.certificates[0].thumbprint
    entry = AuditEntry(said.arrived_at, f"device:{said.device_id}", "certified", said.device_id, "rotation", detail)
    turn = _certificate(said, issued.certificates)
    device = replace(known.device, seen_at=said.arrived_at)
    return turn._replace(changes=(AddCertificates(issued.certificates), PutDevice(device), AddAudit(entry)))


def on_busy(_: Said, __: Known, ___: Policy) -> Turn:
    """Answer nothing while the authority's key is away: the device asks again by itself."""
    return Turn()


def _certificate(said: Said, pair: tuple[Certificate, Certificate]) -> Turn:
    device, transport = pair
    if not isinstance(said.body, Csr):
        raise LocalMistake("certificates for another kind")
    body = CertificateBody(
        commandId=said.body.commandId,
        deviceChain=[show_der(device.der), show_der(device.authority)],
        transportChain=[show_der(transport.der), show_der(transport.authority)],
    )
    reply = Reply(down(said.device_id, "certificate"), body, said.digital_id, in_reply_to=said.id)
    return Turn(changes=(Seen(said.device_id, said.arrived_at),), replies=(reply,))


def due(found: Iterable[tuple[DeviceId, datetime]], plan: RotationTable, now: datetime) -> list[DeviceId]:
    """Return the devices whose time has come. found: each with when its certificate began.

    Each has a delay of its own, so that a fleet enrolled in one day does not rotate in one hour.
    """
    age = timedelta(days=plan.after_days)
    return [device_id for device_id, begun in found if begun + age + _delay(device_id, plan.jitter_days) <= now]


def _delay(device_id: DeviceId, days: int) -> timedelta:
    share = int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:4]) / 2**32
    return timedelta(days=days) * share
