"""A provider, its devices and a sandbox MOSIP to talk to: what the tests of the connector share.

Keys are made once a process, since RSA is what MOSIP's services read and RSA keys are slow to make.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import DAY, Issuer, Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.factory import CHIP
from fleetward_schemas.certificates import Unit
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose, device_id, sign_identity
from fleetward_schemas.inventory import LEVELS, DeviceInfo, DeviceStatus, sign_info, sign_words
from fleetward_schemas.jws import Alg, PrivateKey, compact, split
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64url, show_der
from fleetward_schemas.topics import DeviceId
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.queue import Act, Task, TaskState, new_task
from fleetward_server.mosip.settings import MosipTable, Profile
from fleetward_server.mosip.signing import ProviderSeal
from fleetward_server.state import Device, Presence

NAME, PROVIDER_ID = "Acme Ltd", "acme"
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@cache
def rsa(name: str) -> PrivateKey:
    """Return one RSA key per name."""
    del name
    return make_key(Alg.RS256)


@cache
def authority(name: str, at: datetime) -> Issuer:
    """Return a self-signed authority over its own key: ``device`` is the provider's, ``ftm`` a chip maker's."""
    key, subject = rsa(name), Subject(f"{NAME} {name} CA", NAME, Unit.DEVICE)
    root = Issuer(profiles.self_signed(Subject("root", NAME), rsa("root"), at - 9 * DAY), rsa("root"))
    return Issuer(profiles.issue(profiles.ISSUING, subject, key.public_key(), root, start=at - 8 * DAY), key)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Scanner:
    """A device with real keys. issuer: of its device certificate."""

    number: int
    level: Certification = Certification.L0
    purpose: Purpose = Purpose.REGISTRATION
    issuer: Issuer | None = None
    digital_id_ms: bool = True

    @property
    def identity(self) -> DigitalId:
        return DigitalId(
            serialNo=f"SN-{self.number:04d}",
            make="Acme",
            model="Slap-4",
            type="Finger",
            deviceSubType="Slap",
            deviceProvider=NAME,
            deviceProviderId=PROVIDER_ID,
            dateTime="2026-01-01T00:00:00Z",
        )

    @property
    def id(self) -> str:
        return device_id(self.identity)

    def leaf(self, at: datetime) -> bytes:
        by = self.issuer or authority("device", at)
        subject, start = Subject(f"sign-{self.id}", NAME), max(at - DAY, by.certificate.not_valid_before_utc)
        return der(profiles.issue(profiles.DEVICE, subject, rsa("a device").public_key(), by, start=start))

    def digital_id(self, at: datetime) -> str:
        moment = show(at) if self.digital_id_ms else self.identity.at(at).dateTime
        identity = self.identity.changed(dateTime=moment)
        if self.level is Certification.L0:
            return sign_identity(identity, rsa("a device"), self.leaf(at))
        maker = authority("ftm", at)
        chip = profiles.issue(CHIP, Subject("FTM", "Chips"), rsa("a chip").public_key(), maker, start=at - DAY)
        return sign_identity(identity, rsa("a chip"), der(chip))

    def info(self, at: datetime, **changes: Any) -> str:
        """Return deviceInfo as this device signs it."""
        info = DeviceInfo(
            deviceId=self.id,
            deviceCode="unassigned",
            deviceStatus=DeviceStatus.READY,
            deviceSubId=["1", "2", "3"],
            certification=self.level,
            serviceVersion="1.0.0",
            firmware="7.1",
            specVersion=["0.9.5"],
            purpose=self.purpose,
            env=Environment.DEVELOPER,
            digitalId=self.digital_id(at),
            timestamp=show(at),
        )
        return sign_info(info.changed(**changes), rsa("a device"), self.leaf(at))

    def info_as_sbi(self, at: datetime) -> str:
        """Return deviceInfo as this device signs it in the spelling of SBI 1.0."""
        info = json.loads(split(self.info(at).encode()).payload)
        named = {name: value for name, value in info.items() if name not in {"deviceId", "deviceCode"}}
        level = {held: word for word, held in LEVELS.items()}[self.level]
        named |= {"serialNo": self.identity.serialNo, "certification": level, "specVersion": ["1.0.0"]}
        return sign_words(json.dumps(named).encode(), rsa("a device"), self.leaf(at))

    def row(self, **changes: Any) -> Device:
        """Return its record, registered and online."""
        row = Device(
            id=device_id(self.identity),
            state=State.REGISTERED,
            certification=self.level,
            purpose=self.purpose,
            identity=self.identity,
            listed=True,
            presence=Presence.ONLINE,
            digital_id="a digital ID",
        )
        return replace(row, **changes)


def signed(payload: dict[str, Any], by: Issuer, **header: Any) -> str:
    """Return a compact JWS by a certificate's key."""
    whole = {"alg": "RS256", "typ": "JWT", "x5c": [show_der(der(by.certificate))]} | header
    segment = b64url(json.dumps(whole).encode()).encode()
    return compact(segment, json.dumps(payload).encode(), by.key).decode()


def task(act: Act = Act.REGISTER, state: TaskState = TaskState.WAITING, **changes: Any) -> Task:
    """Return a task, of nobody there is unless ``changes`` say of whom."""
    return replace(new_task(DeviceId("a" * 26), Profile.PMS, act, NOW), state=state, **changes)


def voice(profile: Profile) -> Voice:
    """Return the provider's voice at a MOSIP of this age."""
    provider = authority("device", NOW)
    table = MosipTable(profile, "https://x", trust_provider_id="ftp-1")
    return Voice(table, ProviderSeal(provider.key, provider.certificate), MosipAnchors(()), "Stage")
