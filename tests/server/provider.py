"""A provider in memory: one PKI, one FTM maker, and messages as the handlers see them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.factory import CHIP
from fleetward_schemas.certificates import Unit, key_thumbprint, thumbprint
from fleetward_schemas.enrol import State
from fleetward_schemas.envelope import Members, Opened
from fleetward_schemas.header import Header
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose, SignedIdentity, device_id
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import show
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import Address, Direction, principal_of
from fleetward_server.state import Certificate, CertificateState, Device, Use
from fleetward_server.turn import Known, Policy, Said, Speaker

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
ID = "0190a000-0000-7000-8000-000000000001"
NONCE = "A" * 43
POLICY = Policy("listed", Environment.DEVELOPER, "Acme", "acme", telemetry_s=30, time_s=600, radius_ms=250)
IDENTITY = DigitalId(
    serialNo="SN-0001",
    make="Acme",
    model="Slap-4",
    type="Finger",
    deviceSubType="Slap",
    deviceProvider="Acme",
    deviceProviderId="acme",
    dateTime="2026-05-01T00:00:00Z",
)
DEVICE_ID = device_id(IDENTITY)


@cache
def key(name: str) -> PrivateKey:
    """Return one Ed25519 key per name."""
    del name
    return make_key(Alg.EDDSA)


@cache
def issuer(name: str) -> Issuer:
    """Return an issuing CA (``device``, ``factory``, ``service``) or the FTM maker's (``ftm``)."""
    root = profiles.self_signed(Subject(f"{name} root", "Acme"), key(f"root {name}"), NOW - timedelta(days=9))
    unit = Unit(name) if name in set(Unit) else None
    subject = Subject(f"{name} CA", "Acme", unit)
    made = profiles.issue(
        profiles.ISSUING,
        subject,
        key(name).public_key(),
        Issuer(root, key(f"root {name}")),
        start=NOW - timedelta(days=9),
    )
    return Issuer(made, key(name))


@cache
def leaf(name: str, under: str) -> bytes:
    """Return a leaf over ``key(name)`` in DER."""
    profile = {"ftm": CHIP, "factory": profiles.FACTORY, "device": profiles.DEVICE}[under]
    made = profiles.issue(
        profile, Subject(name, "Acme"), key(name).public_key(), issuer(under), start=NOW - timedelta(days=1)
    )
    return made.public_bytes(Encoding.DER)


def ftm_speaker(name: str = "chip") -> Speaker:
    """Return a proven FTM."""
    return Speaker(key(name).public_key(), thumbprint(leaf(name, "ftm")), NOW + timedelta(days=9), ftm=True)


def factory_speaker(name: str = "factory") -> Speaker:
    """Return a factory key."""
    return Speaker(key(name).public_key(), thumbprint(leaf(name, "factory")), NOW + timedelta(days=9))


def certificate(name: str = "device key", use: Use = Use.DEVICE, pair: str = ID, **changes: object) -> Certificate:
    """Return a row of an issued certificate."""
    row = Certificate(
        thumbprint=thumbprint(leaf(name, "device")),
        device_id=DEVICE_ID,
        use=use,
        state=CertificateState.CURRENT,
        serial=1,
        key_thumbprint=key_thumbprint(key(name).public_key()),
        pair=pair,
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=29),
        der=leaf(name, "device"),
        authority=issuer("device").certificate.public_bytes(Encoding.DER),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def pair() -> tuple[Certificate, Certificate]:
    """Return a device certificate and its transport twin."""
    return certificate(), certificate("transport key", Use.TRANSPORT, serial=2)


def device(**changes: object) -> Device:
    """Return an approved L1 on the list."""
    row = Device(DEVICE_ID, State.APPROVED, Certification.L1, Purpose.REGISTRATION, IDENTITY, listed=True)
    return replace(row, **changes)  # type: ignore[arg-type]


def known(**changes: object) -> Known:
    """Return what the store knows: the approved device, its model approved."""
    return Known(device(), model_approved=True, random=b"r" * 32)._replace(**changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Voice:
    """How a message comes: who speaks, about which identity."""

    speaker: Speaker
    identity: DigitalId = IDENTITY
    message_id: str = ID
    digital_id: str = "signed.digital.id"


def said(kind: str, body: Body, voice: Voice) -> Said:
    """Return an admitted message of ``kind``."""
    entry = KINDS[(Direction.UP, kind)]
    of_device = voice.speaker.certificate is not None
    principal = principal_of(DEVICE_ID if of_device else f"f-{DEVICE_ID}")
    assert principal is not None
    topic = f"fw/v1/d/{principal.name}/up/{kind}"
    members = Members(
        id=voice.message_id,
        kind=kind,
        topic=topic,
        seq=0 if entry.nonce_bound else 7,
        timestamp=show(NOW),
        digitalId=voice.digital_id,
        body=body.document(),
    )
    header = Header(Alg.EDDSA, None, voice.speaker.signer)
    opened = Opened(entry, Address(Direction.UP, kind, principal), header, members, NOW, None)
    identity = SignedIdentity(digital_id=voice.identity, leaf=leaf("chip", "ftm"))
    return Said(opened, body, DEVICE_ID, voice.speaker, identity, NOW)


def csr(name: str) -> str:
    """Return a certification request over ``key(name)``, base64 DER."""
    return show_der(profiles.request("any", key(name)).public_bytes(Encoding.DER))


def device_speaker(**changes: object) -> Speaker:
    """Return the device's own key, under its certificate."""
    row = certificate(**changes)
    return Speaker(key("device key").public_key(), row.thumbprint, row.not_after, certificate=row)
