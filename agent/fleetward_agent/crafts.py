"""What needs a key or a look at the scanner: sealing, signing digital IDs and device info, making keys and requests.

Two keys at each door: one shows itself to TLS, one signs messages. Numbers (``seq``) are kept here, in memory.
Source: protocol sections 1 and 3; a stolen transport key can connect and say nothing.
"""

from dataclasses import replace

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.instant import Instant
from fleetward_agent.inventory import describe
from fleetward_agent.origin import Credential, Origin
from fleetward_agent.outbox import DROPPED, THINNED
from fleetward_agent.parts import Options, Parts
from fleetward_agent.session import Session
from fleetward_agent.state import Pair
from fleetward_agent.turn import (
    Adopt,
    Adopted,
    Craft,
    CraftOutcome,
    Destroy,
    Destroyed,
    FirstSigned,
    InfoSigned,
    KeysMade,
    MakeKeys,
    ReadingTaken,
    Renew,
    Renewed,
    Say,
    SignFirst,
    SignInfo,
    TakeReading,
)
from fleetward_agent.upgrade_effects import ScannerSeen, SeeScanner
from fleetward_agent.walk import DOORS, Door
from fleetward_broker.profiles import request
from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.envelope import Draft, Seal, seal
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.inventory import DeviceStatus, sign_info
from fleetward_schemas.jws import PrivateKey
from fleetward_schemas.moment import to_ms
from fleetward_schemas.replay import next_seq
from fleetward_schemas.strict import b64_der, show_der
from fleetward_schemas.topics import Role, up


class Crafts:
    """The hands of one device. Every method may raise ``KeyUnavailable``."""

    def __init__(self, origin: Origin, parts: Parts, options: Options) -> None:
        self._origin = origin
        self._parts = parts
        self._options = options
        self._seals: dict[Role, tuple[Pair | None, Seal]] = {}
        self._seqs: dict[str, int] = {}
        self._least_seq = 0
        self._tidy = False

    def shown_at(self, door: Door, session: Session) -> Credential:
        """Return what TLS shows at a door."""
        if door.role is Role.FACTORY:
            return self._origin.factory
        return self.transport(session)

    def transport(self, session: Session) -> Credential:
        """Return the transport key and its chain."""
        pair = _pair(session)
        return Credential(self._parts.keys.open(pair.transport_key), _ders(pair.transport_chain))

    def seal(self, session: Session, say: Say, at: Instant) -> bytes:
        """Seal one message in the voice of the session's stage, under a number that no message had."""
        topic = up(session.principal, say.kind)
        now = session.clock.now(at.boot_us)
        if session.digital_id is None:
            raise LocalMistake(f"{say.kind} before there is a digital ID")
        seq = next_seq(to_ms(now), self._seqs.get(topic, self._least_seq))
        self._seqs[topic] = seq
        draft = Draft(topic, say.id, seq, session.digital_id, say.body, say.in_reply_to)
        return seal(draft, self._voice(session), now)

    def count_from(self, seq: int) -> None:
        """Use no number up to ``seq``: they were used before, at a time that may not have moved on since."""
        self._least_seq = seq

    @property
    def highest_seq(self) -> int:
        """The highest number used so far."""
        return max(self._seqs.values(), default=self._least_seq)

    def perform(self, effect: Craft, session: Session, at: Instant) -> CraftOutcome:
        """Do what a step asked for."""
        self._tidied(session)
        match effect:
            case SignFirst():
                return FirstSigned(self._origin.first_identity(session.clock.now(at.boot_us)))
            case MakeKeys():
                return self._make_keys(effect)
            case Adopt(pair=pair):
                return Adopted(self._lasting(pair, session, at))
            case Destroy(names=names):
                return self._destroy(names)
            case Renew(pair=pair):
                return Renewed(self._renewed(pair, session, at))
            case SignInfo(command_id=command_id):
                return InfoSigned(command_id, self._info(session, at))
            case TakeReading():
                return self._reading()
            case SeeScanner(name=name):
                return ScannerSeen(name, self._parts.scanner.read().status is not DeviceStatus.NOT_READY)

    def _voice(self, session: Session) -> Seal:
        door = DOORS[session.stage]
        if door is None:
            raise LocalMistake("nothing is said while resting")
        pair = session.pair if door.role is Role.DEVICE else None
        kept = self._seals.get(door.role)
        if kept is None or kept[0] != pair:
            made = self._origin.proof.by_chain() if pair is None else self._device(pair).by_thumbprint()
            kept = self._seals[door.role] = (pair, made)
        return kept[1]

    def _device(self, pair: Pair) -> Credential:
        return Credential(self._parts.keys.open(pair.device_key), _ders(pair.device_chain))

    def _make_keys(self, wanted: MakeKeys) -> KeysMade:
        device = self._parts.keys.make(wanted.device_key, self._options.device_alg)
        transport = self._parts.keys.make(wanted.transport_key, self._options.transport_alg)
        names = (f"sign-{self._origin.device_id}", self._origin.device_id)
        thumbprints = (key_thumbprint(device.public_key()), key_thumbprint(transport.public_key()))
        return KeysMade(_request(names[0], device), _request(names[1], transport), thumbprints)

    def _lasting(self, pair: Pair, session: Session, at: Instant) -> Pair:
        """Return the pair with the digital ID of its life; one that has it keeps it."""
        if session.kept.pair == pair:
            return pair
        now = session.clock.now(at.boot_us)
        lasting = self._origin.lasting_identity(pair.digital_id, self._device(pair), now)
        return Pair(pair.device_key, pair.transport_key, pair.device_chain, pair.transport_chain, lasting)

    def _tidied(self, session: Session) -> None:
        """Once a start, destroy the keys that nothing remembers: a crash came between making and writing down.

        Not after a fall back to the backup, which may be older than the keys.
        """
        if self._tidy or self._parts.state.fell_back:
            return
        self._destroy(tuple(sorted(self._parts.keys.names() - session.kept.texts())))
        self._tidy = True

    def _renewed(self, pair: Pair, session: Session, at: Instant) -> Pair:
        """At L1 the FTM signs once more, at L0 the new device key: the digital ID tells when its keys began."""
        now = session.clock.now(at.boot_us)
        lasting = self._origin.lasting_identity(self._origin.first_identity(now), self._device(pair), now)
        return replace(pair, digital_id=lasting)

    def _destroy(self, names: tuple[str, ...]) -> Destroyed:
        for name in names:
            self._parts.keys.destroy(name)
        return Destroyed(names)

    def _info(self, session: Session, at: Instant) -> str:
        device = self._device(_pair(session))
        return sign_info(describe(session, self._parts.scanner.read(), at), device.key, device.chain[0])

    def _reading(self) -> ReadingTaken:
        host = {} if self._parts.gauge is None else self._parts.gauge.read()
        outbox = self._parts.outbox
        gone = (outbox.counter(DROPPED), outbox.counter(THINNED))
        return ReadingTaken(self._parts.scanner.read(), host, outbox.depth, *gone)


def _pair(session: Session) -> Pair:
    if session.pair is None:
        raise LocalMistake("the device has no certificate")
    return session.pair


def _ders(chain: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(b64_der(one) for one in chain)


def _request(name: str, key: PrivateKey) -> str:
    return show_der(request(name, key).public_bytes(Encoding.DER))
