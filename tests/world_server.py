"""A provider's PKI, and a server end made of the schemas' own functions, which says what a test tells it to say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.origin import Credential, Origin
from fleetward_broker import profiles
from fleetward_broker.profiles import DAY, Issuer, Profile, Subject
from fleetward_broker.signers import make_key
from fleetward_schemas import moment
from fleetward_schemas.certificates import Anchors, Unit, common_name, public_key, read_certificate, thumbprint
from fleetward_schemas.clock import TimeAnswer, TimeQuestion
from fleetward_schemas.enrol import Challenge, Enrol, Enrolled, Hello, Settings
from fleetward_schemas.envelope import Draft, Members, Opened, open_sealed, read_body, seal
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.header import Header
from fleetward_schemas.identity import (
    Certification,
    DigitalId,
    Environment,
    Purpose,
    ServerId,
    device_id,
    read_identity,
    sign_identity,
)
from fleetward_schemas.ids import next_id
from fleetward_schemas.jws import Alg, PublicKey
from fleetward_schemas.receipts import Ack
from fleetward_schemas.rotation import Certificate, Csr
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import b64_der, b64url, show_der
from fleetward_schemas.topics import Principal, Role, down
from tests.world_line import START, FakeClock, FakeLink

PROVIDER = "Example Devices Ltd"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


class Provider:
    """A whole PKI: authorities over RSA, as the path check wants, all else over Ed25519. env: of its server."""

    def __init__(self, env: Environment = Environment.DEVELOPER, start: datetime = START - 40 * DAY) -> None:
        self.env = env
        self.start = start
        self.root = self._root()
        self.cas = {unit: self._ca(unit) for unit in Unit}
        self.ftm_root = self._root()

    def _root(self) -> Issuer:
        key = make_key(Alg.RS256)
        return Issuer(profiles.self_signed(Subject("root", PROVIDER), key, self.start), key)

    def _ca(self, unit: Unit) -> Issuer:
        key = make_key(Alg.RS256)
        subject = Subject(f"{unit} CA", PROVIDER, unit)
        made = profiles.issue(profiles.ISSUING, subject, key.public_key(), self.root, start=self.start)
        return Issuer(made, key)

    def leaf(
        self, profile: Profile, name: str, key: PublicKey, unit: Unit, start: datetime, end: datetime | None = None
    ) -> tuple[bytes, ...]:
        issuer = self.cas[unit]
        made = profiles.issue(profile, Subject(name, PROVIDER), key, issuer, start=start, end=end)
        return der(made), der(issuer.certificate)

    def server_signer(self, start: datetime = START - timedelta(hours=1)) -> Credential:
        key = make_key(Alg.EDDSA)
        return Credential(key, self.leaf(profiles.SERVER_SIGNER, "sign-server", key.public_key(), Unit.SERVICE, start))

    def origin(self, serial: str = "SN-1", level: Certification = Certification.L1) -> Origin:
        identity = DigitalId(
            serialNo=serial,
            make="ACME",
            model="F-100",
            type="Finger",
            deviceSubType="Slap",
            deviceProvider=PROVIDER,
            deviceProviderId="example",
            dateTime="1970-01-01T00:00:00Z",
        )
        factory = make_key(Alg.EDDSA)
        name = f"f-{device_id(identity)}"
        chain = self.leaf(profiles.FACTORY, name, factory.public_key(), Unit.FACTORY, self.start)
        return Origin(
            digital_id=identity,
            certification=level,
            purpose=Purpose.REGISTRATION,
            env=self.env,
            roots=(self.root.certificate,),
            factory=Credential(factory, chain),
            ftm=self.ftm(serial) if level is Certification.L1 else None,
        )

    def ftm(self, serial: str) -> Credential:
        key = make_key(Alg.EDDSA)
        subject = Subject(f"chip {serial}", "Chips Inc")
        made = profiles.issue(profiles.FACTORY, subject, key.public_key(), self.ftm_root, start=self.start)
        return Credential(key, (der(made),))


@dataclass(frozen=True)
class Heard:
    """One message of a device, its signature verified."""

    opened: Opened
    body: Body


@dataclass
class FakeServer:
    """The server's end. silent: kinds, and names of principals, that it does not answer.

    ended: certificates it takes no more. refuse_csr: the code that a ``csr`` gets.
    """

    provider: Provider
    link: FakeLink
    clock: FakeClock
    settings: Settings = field(default_factory=lambda: Settings(telemetryS=30, timeS=600))
    silent: set[str] = field(default_factory=set)
    heard: list[Heard] = field(default_factory=list)
    reports: dict[str, Heard] = field(default_factory=dict)
    enrolled_as: Callable[[], Enrolled] | None = None
    refuse_reports: str | None = None
    refuse_csr: str | None = None
    ended: set[str] = field(default_factory=set)
    radius_ms: int = 50
    device_leaf: bytes | None = None
    leaves: dict[str, bytes] = field(default_factory=dict)
    digital_id: str = ""
    seq: int = 0
    last_id: str | None = None
    challenges: dict[str, str] = field(default_factory=dict)
    chains: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signer = self.provider.server_signer()

    def signer_key(self, header: Header, principal: Principal) -> PublicKey:
        if header.x5c is None:
            if header.x5t in self.ended:
                raise Refused(Code.UNKNOWN_SIGNER)
            return public_key(read_certificate(self.leaves[header.x5t or ""]))
        own = common_name(read_certificate(header.x5c[0]).subject) == principal.name
        root = self.provider.root if own else self.provider.ftm_root
        return Anchors((root.certificate,), own=own).verify(header.x5c, self.clock.now).key

    def serve(self) -> None:
        """Answer everything that devices said."""
        while self.link.published:
            topic, raw = self.link.published.popleft()
            try:
                opened = open_sealed(raw, topic, _Trust(self), None)
            except Refused:
                continue
            heard = Heard(opened, read_body(opened))
            self.heard.append(heard)
            self.digital_id = opened.members.digitalId
            principal = opened.address.principal
            assert principal is not None
            if not {opened.kind.name, principal.name} & self.silent:
                self._answer(heard)

    def _answer(self, heard: Heard) -> None:
        principal = heard.opened.address.principal
        assert principal is not None
        match heard.body:
            case TimeQuestion(nonce=nonce):
                self.tell_time(principal.name, nonce)
            case Hello() as hello:
                server_nonce = self.challenges.setdefault(heard.opened.id, b64url(make_nonce(heard.opened.id)))
                body = Challenge(nonce=hello.nonce, serverNonce=server_nonce, settings=self.settings)
                reply = self.enrolled_as() if self.enrolled_as else body
                self.say(principal.name, reply, in_reply_to=heard.opened.id)
            case Enrol() as enrol:
                self.say(principal.name, self.certify(principal, enrol), in_reply_to=heard.opened.id)
            case Csr() as csr:
                self._rotate(heard, principal, csr)
            case _:
                self._take(heard, principal.name)

    def _rotate(self, heard: Heard, principal: Principal, csr: Csr) -> None:
        if self.refuse_csr is not None:
            self.say(
                principal.name,
                Ack.read({"ids": [], "refused": [{"id": heard.opened.id, "code": self.refuse_csr}]}),
            )
            return
        device, transport = self.chains_for(principal, csr.deviceCsr, csr.transportCsr)
        body = Certificate(commandId=csr.commandId, deviceChain=device, transportChain=transport)
        self.say(principal.name, body, in_reply_to=heard.opened.id)

    def _take(self, heard: Heard, name: str) -> None:
        if self.refuse_reports and heard.opened.kind.report:
            refused = [{"id": heard.opened.id, "code": self.refuse_reports}]
            self.say(name, Ack.read({"ids": [], "refused": refused}))
            return
        if heard.opened.kind.report:
            self.reports[heard.opened.id] = heard
        self.say(name, Ack(ids=[heard.opened.id]))

    def tell_time(self, name: str, nonce: str, **changes: str | int) -> None:
        now = moment.show(self.clock.now)
        answer = TimeAnswer.read({"nonce": nonce, "received": now, "sent": now, "radiusMs": self.radius_ms} | changes)
        self.say(name, answer)

    def certify(self, principal: Principal, enrol: Enrol) -> Enrolled:
        """Certify both keys; the same two get the same certificates."""
        if self.enrolled_as is not None:
            return self.enrolled_as()
        kept = self.chains_for(principal, enrol.deviceCsr, enrol.transportCsr)
        return Enrolled(status="registered", deviceChain=kept[0], transportChain=kept[1], env=self.provider.env)

    def chains_for(self, principal: Principal, device_csr: str, transport_csr: str) -> tuple[list[str], list[str]]:
        """Certify two requests, once."""
        kept = self.chains.get(device_csr)
        if kept is None:
            device = x509.load_der_x509_csr(b64_der(device_csr)).public_key()
            transport = x509.load_der_x509_csr(b64_der(transport_csr)).public_key()
            start = self.clock.now - timedelta(seconds=60)
            made = [
                self.provider.leaf(profiles.DEVICE, f"sign-{principal.device_id}", device, Unit.DEVICE, start),  # type: ignore[arg-type]
                self.provider.leaf(profiles.TRANSPORT, str(principal.device_id), transport, Unit.DEVICE, start),  # type: ignore[arg-type]
            ]
            self.device_leaf = made[0][0]
            self.leaves[thumbprint(self.device_leaf)] = self.device_leaf
            kept = self.chains[device_csr] = tuple([show_der(c) for c in chain] for chain in made)  # type: ignore[assignment]
        return kept

    def draft(self, name: str, kind: str, body: Body, **changes: object) -> Draft:
        """Return what would be said; ``changes`` replace the draft's own fields."""
        self.last_id = next_id(self.clock.now, self.last_id, b"12345678")
        self.seq = max(self.seq + 1, moment.to_ms(self.clock.now))
        made = Draft(down(name, kind), self.last_id, self.seq, self.digital_id, body)
        return replace(made, **changes)  # type: ignore[arg-type]

    def say(self, name: str, body: Body, **changes: object) -> bytes:
        """Seal and deliver; return the bytes."""
        kind = type(body).__name__.lower().replace("timeanswer", "time")
        return self.deliver(self.draft(name, kind, body, **changes))

    def deliver(self, draft: Draft, at: datetime | None = None, signer: Credential | None = None) -> bytes:
        raw = seal(draft, (signer or self.signer).by_chain(), at or self.clock.now)
        self.link.send(draft.topic, raw)
        return raw

    def server_identity(self, signer: Credential | None = None, env: Environment | None = None) -> str:
        by = signer or self.signer
        identity = ServerId(
            deviceProvider=PROVIDER,
            deviceProviderId="example",
            env=env or self.provider.env,
            dateTime=moment.show_seconds(self.clock.now),
        )
        return sign_identity(identity, by.key, by.chain[0])

    def said(self, kind: str) -> list[Heard]:
        """Return all that was heard of a kind."""
        return [heard for heard in self.heard if heard.opened.kind.name == kind]


@dataclass(frozen=True)
class _Trust:
    server: FakeServer

    def signer(self, header: Header, principal: Principal | None, members: Members) -> PublicKey:
        assert principal is not None
        identity = read_identity(members.digitalId)
        assert device_id(identity.digital_id) == principal.device_id
        if principal.role is Role.FACTORY and header.x5c is not None:
            assert identity.leaf == header.x5c[0]
        return self.server.signer_key(header, principal)


def make_nonce(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
