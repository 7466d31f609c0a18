"""A device in the hand of a test: real keys, real envelopes, no agent; it says exactly what it is told to say."""

import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.signers import make_key, open_key
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.clock import TimeQuestion
from fleetward_schemas.commands import Result, ResultState
from fleetward_schemas.enrol import Enrol, Hello
from fleetward_schemas.envelope import Draft, Seal, seal
from fleetward_schemas.identity import Certification, DigitalId, Purpose, device_id, sign_identity
from fleetward_schemas.ids import next_id
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.presence import Status
from fleetward_schemas.rotation import Csr
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import b64url, read_object, show_der
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_schemas.topics import up


def ders(path: Path) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file in DER."""
    return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(path.read_bytes()))


@dataclass
class TestDevice:
    """What a provisioned folder holds, and what enrolment adds. seq: last number used."""

    __test__ = False

    folder: Path
    alg: Alg = Alg.EDDSA
    seq: int = 0
    last_id: str | None = None
    device_key: PrivateKey = field(init=False)
    transport_key: PrivateKey = field(init=False)
    next_keys: tuple[PrivateKey, PrivateKey] = field(init=False)
    device_leaf: bytes = b""
    digital_id: str = ""

    def __post_init__(self) -> None:
        papers = read_object((self.folder / "identity.json").read_bytes())
        self.certification, self.purpose = Certification(papers.pop("certification")), Purpose(papers.pop("purpose"))
        self.identity = DigitalId.read(papers)
        self.id = device_id(self.identity)
        name = "ftm" if self.certification is Certification.L1 else "factory"
        self.proof = open_key(f"file:{name}.key.pem", self.folder)
        self.proof_chain = ders(self.folder / f"{name}.chain.pem")
        self.new_keys()

    def new_keys(self) -> None:
        """Make a device key and a transport key."""
        self.device_key, self.transport_key = make_key(self.alg), make_key(Alg.EDDSA)
        self.next_keys = make_key(self.alg), make_key(Alg.EDDSA)

    def factory_digital_id(self, now: datetime) -> str:
        """Return the digital ID of this device before its first certificate."""
        return sign_identity(self.identity.at(now), self.proof, self.proof_chain[0])

    def say(self, kind: str, body: Body, now: datetime, *, message_id: str | None = None) -> tuple[str, bytes]:
        """Return topic and envelope: as the factory principal for its kinds, else as the enrolled device."""
        factory = kind in {"hello", "enrol"} or (kind == "time" and not self.device_leaf)
        topic = up(f"f-{self.id}" if factory else self.id, kind)
        self.seq = max(to_ms(now), self.seq + 1)
        self.last_id = message_id or next_id(now, self.last_id, secrets.token_bytes(8))
        digital_id = self.factory_digital_id(now) if factory else self.digital_id
        draft = Draft(topic, self.last_id, self.seq, digital_id, body)
        return topic, seal(draft, self.seal(factory=factory), now)

    def seal(self, *, factory: bool = False) -> Seal:
        """Return the seal of the proving key, or of the device key."""
        if factory:
            return Seal.by_chain(self.proof, self.proof_chain)
        return Seal.by_thumbprint(self.device_key, thumbprint(self.device_leaf))

    def hello(self, now: datetime, *, current: str | None = None) -> tuple[str, bytes]:
        """Ask to be enrolled."""
        body = Hello(
            nonce=b64url(secrets.token_bytes(32)),
            certification=self.certification,
            purpose=self.purpose,
            protocol=[1],
            agentVersion="test",
            current=current,
        )
        return self.say("hello", body, now)

    def enrol(self, now: datetime, server_nonce: str) -> tuple[str, bytes]:
        """Bring two keys."""
        requests = [
            show_der(profiles.request("any", key).public_bytes(Encoding.DER))
            for key in (self.device_key, self.transport_key)
        ]
        return self.say("enrol", Enrol(serverNonce=server_nonce, deviceCsr=requests[0], transportCsr=requests[1]), now)

    def csr(self, now: datetime, command_id: str, *, message_id: str | None = None) -> tuple[str, bytes]:
        """Bring two keys that a command asked for, under the certificate in office."""
        device, transport = (
            show_der(profiles.request("any", key).public_bytes(Encoding.DER)) for key in self.next_keys
        )
        body = Csr(commandId=command_id, deviceCsr=device, transportCsr=transport)
        return self.say("csr", body, now, message_id=message_id)

    def result(self, now: datetime, command_id: str, state: ResultState) -> tuple[str, bytes]:
        """Say what became of a command."""
        return self.say("result", Result(commandId=command_id, state=state), now)

    def rotate(self, device_leaf: bytes, now: datetime) -> "TestDevice":
        """Return the same device with its next keys in office."""
        after = replace(self)
        after.device_key, after.transport_key = self.next_keys
        after.take(device_leaf, now)
        return after

    def take(self, device_leaf: bytes, now: datetime) -> None:
        """Take the device certificate, and sign the digital ID that goes with it."""
        self.device_leaf = device_leaf
        if self.certification is Certification.L1:
            self.digital_id = sign_identity(self.identity.at(now), self.proof, self.proof_chain[0])
        else:
            self.digital_id = sign_identity(self.identity.at(now), self.device_key, device_leaf)

    def online(self, now: datetime, session: str = "A" * 22) -> tuple[str, bytes]:
        """Say that a session began."""
        return self.say("status", Status(state="online", session=session), now)

    def telemetry(self, now: datetime, **metrics: float) -> tuple[str, bytes]:
        """Report one reading."""
        reading = Reading(observedAt=show(now), uncertaintyMs=250, metrics=metrics or {"uptimeS": 1.0})
        return self.say("telemetry", Telemetry(readings=[reading]), now)

    def ask_time(self, now: datetime) -> tuple[str, bytes]:
        """Ask for the time."""
        return self.say("time", TimeQuestion(nonce=b64url(secrets.token_bytes(32))), now)


def later(now: datetime, **delta: float) -> datetime:
    """Return a later moment."""
    return now + timedelta(**delta)
