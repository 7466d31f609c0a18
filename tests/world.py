"""An in-memory world for devices: a provider's PKI, a network that misbehaves when told to, a clock that stands still
until moved, and a server end made of the schemas' own functions, which says what a test tells it to say.
"""

import hashlib
import itertools
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel

from fleetward_agent.device import Device, Options, Parts
from fleetward_agent.origin import Credential, Origin
from fleetward_agent.outbox import Limits, Outbox
from fleetward_agent.ports import Sighting
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateFile
from fleetward_broker import profiles
from fleetward_broker.gate import Action, may
from fleetward_broker.line import Arrived, Connected, Dial, DialMaker, Event, LineId, Loss, Lost, Token
from fleetward_broker.profiles import DAY, Issuer, Profile, Subject
from fleetward_broker.signers import KeyUnavailable, make_key
from fleetward_schemas import moment
from fleetward_schemas.certificates import Anchors, Unit, common_name, public_key, read_certificate, thumbprint
from fleetward_schemas.clock import Beacon, TimeAnswer, TimeQuestion
from fleetward_schemas.enrol import Challenge, Enrol, Enrolled, Hello, Settings
from fleetward_schemas.envelope import Draft, Header, Members, Opened, open_sealed, read_body, seal
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
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey
from fleetward_schemas.receipts import Ack
from fleetward_schemas.strict import b64_der, b64url, show_der
from fleetward_schemas.topics import Principal, Role, down, fleet, principal_of

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROVIDER = "Example Devices Ltd"
SECOND_US = 1_000_000


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@dataclass
class FakeClock:
    """True time and the device's boot clock, which may drift. Both move only when told."""

    now: datetime = START
    boot_us: int = 500 * SECOND_US

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.boot_us += int(seconds * SECOND_US)


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


class MemoryKeys:
    """A key store in memory; Ed25519 whatever is asked, for speed."""

    def __init__(self) -> None:
        self.kept: dict[str, PrivateKey] = {}
        self.broken = False

    def make(self, name: str, alg: Alg) -> PrivateKey:
        return self.kept.setdefault(name, make_key(Alg.EDDSA))

    def open(self, name: str) -> PrivateKey:
        if self.broken or name not in self.kept:
            raise KeyUnavailable(f"{name}: not there")
        return self.kept[name]

    def destroy(self, name: str) -> None:
        self.kept.pop(name, None)


class FakeScanner:
    """A scanner that is as it is told to be."""

    def __init__(self, identity: DigitalId) -> None:
        self.identity = identity
        self.sighting = Sighting(DeviceStatus.READY, {"temperatureC": 31.5}, "2.4.1", "1.0.0")

    def present(self) -> tuple[DigitalId, ...]:
        return (self.identity,)

    def read(self) -> Sighting:
        return self.sighting


@dataclass
class FakeLine:
    """One connection. queue: what the broker keeps for it until it is acknowledged."""

    dial: Dial
    principal: Principal
    unacked: list[Arrived] = field(default_factory=list)


class FakeLink:
    """Link and broker in one. refuse: the loss that each new dial meets; deaf: publishes vanish."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.refuse: Loss | None = None
        self.deaf = False
        self.dials: list[Dial] = []
        self.lines: dict[LineId, FakeLine] = {}
        self.acked: list[str] = []
        self.published: deque[tuple[str, bytes]] = deque()
        self.wills: list[bytes] = []
        self.sessions: dict[str, list[tuple[str, bytes]]] = {}
        self._events: deque[Event] = deque()
        self._waiting: deque[tuple[LineId, DialMaker]] = deque()
        self._numbers = itertools.count(1)

    def open(self, dial: DialMaker, *, after_s: float = 0.0) -> LineId:
        line = LineId(next(self._numbers))
        self._waiting.append((line, dial))
        return line

    def poll(self, timeout_s: float, most: int = 1000) -> list[Event]:
        while self._waiting:
            self._connect(*self._waiting.popleft())
        if not self._events:
            self.clock.pass_s(timeout_s)
        return [self._events.popleft() for _ in range(min(most, len(self._events)))]

    def _connect(self, line: LineId, maker: DialMaker) -> None:
        dial = maker()
        self.dials.append(dial)
        principal = principal_of(dial.client_id.rpartition("-")[0])
        if self.refuse is not None or principal is None:
            self._events.append(Lost(line, self.refuse or Loss.CONNECT_REFUSED))
            return
        if not all(may(principal, Action.SUBSCRIBE, topic) for topic, _ in dial.subscriptions):
            self._events.append(Lost(line, Loss.SUBSCRIBE_REFUSED))
            return
        self.lines[line] = FakeLine(dial, principal)
        kept = self.sessions.pop(dial.client_id, [])
        for topic, raw in kept:
            self._deliver(line, topic, raw)
        self._events.append(Connected(line, session_present=bool(kept)))

    def publish(self, line: LineId, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Token | None:
        held = self.lines.get(line)
        if held is None:
            return None
        if not self.deaf and may(held.principal, Action.PUBLISH, topic):
            self.published.append((topic, payload))
        return Token(next(self._numbers))

    def ack(self, arrived: Arrived) -> None:
        held = self.lines.get(arrived.line)
        if held is not None:
            held.unacked.remove(arrived)
            self.acked.append(arrived.topic)

    def close(self, line: LineId) -> None:
        held = self.lines.pop(line, None)
        if held is not None:
            self._keep(held)
            self._events.append(Lost(line, Loss.CLOSED))

    def cut(self, loss: Loss = Loss.DROPPED) -> None:
        """Break every line; wills are published, unacknowledged messages kept for the sessions that live on."""
        for line, held in list(self.lines.items()):
            del self.lines[line]
            self._keep(held)
            if held.dial.will is not None:
                self.wills.append(held.dial.will.payload)
            self._events.append(Lost(line, loss))

    def _keep(self, held: FakeLine) -> None:
        if not held.dial.clean:
            self.sessions.setdefault(held.dial.client_id, []).extend((a.topic, a.payload) for a in held.unacked)

    def send(self, topic: str, raw: bytes, qos: int = 1) -> None:
        """Deliver to every line that subscribes to ``topic``."""
        for line, held in self.lines.items():
            if any(_matches(wanted, topic) for wanted, _ in held.dial.subscriptions):
                self._deliver(line, topic, raw, qos)

    def _deliver(self, line: LineId, topic: str, raw: bytes, qos: int = 1) -> None:
        arrived = Arrived(line, topic, raw, qos, retained=False, mid=next(self._numbers))
        if qos:
            self.lines[line].unacked.append(arrived)
        self._events.append(arrived)


def _matches(wanted: str, topic: str) -> bool:
    return topic == wanted or (wanted.endswith("#") and topic.startswith(wanted[:-1]))


@dataclass(frozen=True)
class Heard:
    """One message of a device, its signature verified."""

    opened: Opened
    body: BaseModel


@dataclass
class FakeServer:
    """The server's end. silent: kinds it does not answer; answers: what replaces its usual reply to a kind."""

    provider: Provider
    link: FakeLink
    clock: FakeClock
    settings: Settings = field(default_factory=lambda: Settings(telemetryS=30, timeS=600))
    silent: set[str] = field(default_factory=set)
    heard: list[Heard] = field(default_factory=list)
    reports: dict[str, Heard] = field(default_factory=dict)
    enrolled_as: Callable[[], Enrolled] | None = None
    refuse_reports: str | None = None
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
            return public_key(read_certificate(self.leaves[header.x5t or ""]))
        own = common_name(read_certificate(header.x5c[0]).subject) == principal.name
        root = self.provider.root if own else self.provider.ftm_root
        return Anchors((root.certificate,), own=own).verify(header.x5c, self.clock.now).key

    def serve(self) -> None:
        """Answer everything that devices said."""
        while self.link.published:
            topic, raw = self.link.published.popleft()
            opened = open_sealed(raw, topic, _Trust(self), None)
            heard = Heard(opened, read_body(opened))
            self.heard.append(heard)
            self.digital_id = opened.members.digitalId
            if opened.kind.name not in self.silent:
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
            case _:
                self._take(heard, principal.name)

    def _take(self, heard: Heard, name: str) -> None:
        if self.refuse_reports and heard.opened.kind.report:
            refused = [{"id": heard.opened.id, "code": self.refuse_reports}]
            self.say(name, Ack.model_validate({"ids": [], "refused": refused}))
            return
        if heard.opened.kind.report:
            self.reports[heard.opened.id] = heard
        self.say(name, Ack(ids=[heard.opened.id]))

    def tell_time(self, name: str, nonce: str, **changes: str | int) -> None:
        now = moment.show(self.clock.now)
        answer = TimeAnswer.model_validate(
            {"nonce": nonce, "received": now, "sent": now, "radiusMs": self.radius_ms} | changes
        )
        self.say(name, answer)

    def certify(self, principal: Principal, enrol: Enrol) -> Enrolled:
        """Certify both keys; the same two get the same certificates."""
        if self.enrolled_as is not None:
            return self.enrolled_as()
        kept = self.chains.get(enrol.deviceCsr)
        if kept is None:
            device = x509.load_der_x509_csr(b64_der(enrol.deviceCsr)).public_key()
            transport = x509.load_der_x509_csr(b64_der(enrol.transportCsr)).public_key()
            start = self.clock.now - timedelta(seconds=60)
            made = [
                self.provider.leaf(profiles.DEVICE, f"sign-{principal.device_id}", device, Unit.DEVICE, start),  # type: ignore[arg-type]
                self.provider.leaf(profiles.TRANSPORT, str(principal.device_id), transport, Unit.DEVICE, start),  # type: ignore[arg-type]
            ]
            self.device_leaf = made[0][0]
            self.leaves[thumbprint(self.device_leaf)] = self.device_leaf
            kept = self.chains[enrol.deviceCsr] = tuple([show_der(c) for c in chain] for chain in made)  # type: ignore[assignment]
        return Enrolled(status="registered", deviceChain=kept[0], transportChain=kept[1], env=self.provider.env)

    def draft(self, name: str, kind: str, body: BaseModel, **changes: object) -> Draft:
        """Return what would be said; ``changes`` replace the draft's own fields."""
        self.last_id = next_id(self.clock.now, self.last_id, b"12345678")
        self.seq = max(self.seq + 1, moment.to_ms(self.clock.now))
        made = Draft(down(name, kind), self.last_id, self.seq, self.digital_id, body)
        return replace(made, **changes)  # type: ignore[arg-type]

    def say(self, name: str, body: BaseModel, **changes: object) -> bytes:
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


class Stage:
    """A device on a stage: everything around it, and the hand that moves time."""

    def __init__(
        self,
        provider: Provider,
        level: Certification = Certification.L1,
        *,
        serial: str = "SN-1",
        parts: Parts | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.provider = provider
        self.clock = FakeClock()
        self.link = FakeLink(self.clock)
        self.server = FakeServer(provider, self.link, self.clock)
        self.origin = provider.origin(serial, level)
        self.keys = MemoryKeys()
        self.scanner = FakeScanner(self.origin.digital_id)
        self.parts = parts or Parts(self.keys, self.scanner, StateFile(None), Outbox(None, limits))
        self.log: list[tuple[str, Mapping[str, str | int]]] = []
        self.boot_id = "boot-1"
        self.start()

    def start(self) -> None:
        """Start the agent (again): what it holds in memory is gone."""
        self.device = Device(self.origin, self.parts, Options(device_alg=Alg.EDDSA))
        self.host = Host(self.link, [self.device], self.world())

    def world(self) -> World:
        return World(
            boot_us=lambda: self.clock.boot_us,
            boot_id=self.boot_id,
            random=_counted(),
            context=lambda roots, shown, check_time: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            log=lambda event, fields: self.log.append((event, fields)),
        )

    def turn(self, timeout_s: float = 0.05) -> None:
        self.host.turn(timeout_s)
        self.server.serve()

    def until(self, done: Callable[[], object], within_s: float = 600) -> None:
        """Turn until ``done``; the clock moves as the agent waits."""
        end = self.clock.now + timedelta(seconds=within_s)
        while not done():
            if self.clock.now > end:
                raise AssertionError(f"not within {within_s} s at {self.device.stage}; log: {self.log[-12:]}")
            self.turn(1.0)

    def pass_s(self, seconds: float) -> None:
        """Let time go by, the agent turning."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            self.turn(min(1.0, (end - self.clock.now).total_seconds()))

    def events(self, name: str) -> list[Mapping[str, str | int]]:
        return [fields for event, fields in self.log if event == name]

    @cached_property
    def id(self) -> str:
        return self.origin.device_id

    def beacon(self, **changes: object) -> bytes:
        """Deliver a beacon to the fleet; ``at`` and ``signer`` as in ``deliver``."""
        at, signer = changes.pop("at", None), changes.pop("signer", None)
        spoken = {"topic": fleet("beacon"), "digital_id": self.server.server_identity(signer)} | changes  # type: ignore[arg-type]
        made = self.server.draft(self.id, "beacon", Beacon(), **spoken)
        return self.server.deliver(made, at, signer)  # type: ignore[arg-type]


_SEEDS = itertools.count(1)


def _counted() -> Callable[[int], bytes]:
    """Return a source of bytes that never repeats and is the same in every run."""
    return lambda size: next(_SEEDS).to_bytes(size, "big")
