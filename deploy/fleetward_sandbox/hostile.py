"""A thief: everything that can be stolen from one device's disk, used against the server in six ways.

It opens TLS as the device (transport key), and even signs as it (device key); each message is spoiled in one thing.
The server must refuse each by exactly its code. Source: protocol section 3 ("Checks, first failure wins").
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.keys import FileKeys
from fleetward_agent.state import Pair, StateFile
from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.line import Connected, Delivered, Dial, Lost
from fleetward_broker.link import SelectorLink
from fleetward_broker.signers import key_pem
from fleetward_broker.tls import client_context
from fleetward_schemas.certificates import common_name, read_certificate, thumbprint
from fleetward_schemas.envelope import Draft, Seal, seal
from fleetward_schemas.errors import Code, LocalMistake
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.receipts import Alert, AlertCode
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, b64_der, b64url, b64url_decode, read_object
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_schemas.topics import up

WAIT_S = 60.0
LONG_AGO = timedelta(days=8)
BEHIND_MS = 1000
Message = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Loot:
    """What was stolen from a device's folder."""

    folder: Path
    id: str
    pair: Pair
    seal: Seal

    @classmethod
    def of(cls, folder: Path) -> "Loot":
        """Steal from ``folder``: chains, digital ID, and the device key itself."""
        pair = StateFile(folder / "state").load().pair
        if pair is None:
            raise LocalMistake(f"{folder}: not enrolled, nothing to steal")
        key = FileKeys(folder / "state" / "keys").open(pair.device_key)
        leaf = b64_der(pair.device_chain[0])
        name = common_name(read_certificate(leaf).subject) or ""
        return cls(folder, name.removeprefix("sign-"), pair, Seal.by_thumbprint(key, thumbprint(leaf)))

    def telemetry(self, now: datetime) -> Message:
        """Return a good report."""
        reading = Reading(observedAt=show(now), uncertaintyMs=1, metrics={"uptimeS": 1.0})
        return self._sealed("telemetry", Telemetry(readings=[reading]), now, to_ms(now))

    def alert(self, now: datetime, seq: int) -> Message:
        """Return a good alert under a number of choice."""
        return self._sealed("alert", Alert(code=AlertCode.STALE, count=1, first=show(now), last=show(now)), now, seq)

    def _sealed(self, kind: str, body: Telemetry | Alert, now: datetime, seq: int) -> Message:
        topic = up(self.id, kind)
        message_id = next_id(now, None, secrets.token_bytes(RANDOM_BYTES))
        return topic, seal(Draft(topic, message_id, seq, self.pair.digital_id, body), self.seal, now)


def attacks(victim: Loot, other: Loot, now: datetime) -> Iterator[tuple[Code, list[Message]]]:
    """Yield each code with the messages that must draw it, the last of them hostile."""
    topic, good = victim.telemetry(now)
    yield Code.BAD_SIGNATURE, [(topic, _spoiled(good))]
    old = victim.alert(now, to_ms(now) - BEHIND_MS)
    yield Code.REPLAYED, [old, victim.alert(now, to_ms(now)), old]
    yield Code.WRONG_TOPIC, [(up(victim.id, "info"), victim.telemetry(now)[1])]
    yield Code.STALE, [victim.telemetry(now - LONG_AGO)]
    yield Code.TOO_LARGE, [(topic, b"A" * (MAX_ENVELOPE_BYTES + 1))]
    foreign = Loot(victim.folder, victim.id, victim.pair, other.seal)
    yield Code.UNKNOWN_SIGNER, [foreign.telemetry(now)]


def _spoiled(raw: bytes) -> bytes:
    """Return the message with other content under the same signature."""
    header, payload, signature = raw.split(b".")
    other = b64url_decode(payload).replace(b'"uptimeS":1.0', b'"uptimeS":9.0')
    return b".".join((header, b64url(other).encode(), signature))


class Thief:
    """A connection as the victim, beside the victim's own."""

    def __init__(self, loot: Loot) -> None:
        """Connect; the broker cannot tell, and need not.

        Raises:
            LocalMistake: no connection.
        """
        self._loot = loot
        self._link = SelectorLink(time.monotonic)
        self._line = self._link.open(self._dial)
        self._wait(lambda event: isinstance(event, Connected))

    def send(self, message: Message) -> None:
        """Publish and wait until the broker took it."""
        token = self._link.publish(self._line, *message)
        self._wait(lambda event: isinstance(event, Delivered) and event.token == token)

    def close(self) -> None:
        """Go."""
        self._link.close(self._line)
        self._wait(lambda event: isinstance(event, Lost))
        self._link.shutdown()

    def _wait(self, until: Callable[[object], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for event in self._link.poll(0.1):
                if until(event):
                    return
                if isinstance(event, Lost):
                    raise LocalMistake(f"the thief's line: {event.loss} {event.detail}")
        raise LocalMistake("the broker did not answer the thief")

    def _dial(self) -> Dial:
        folder, pair = self._loot.folder, self._loot.pair
        connection = read_object((folder / "connection.json").read_bytes())
        chain, key = folder / "state" / "stolen.pem", folder / "state" / "stolen.key.pem"
        ders = [x509.load_der_x509_certificate(b64_der(one)) for one in pair.transport_chain]
        write_durably(chain, b"".join(one.public_bytes(Encoding.PEM) for one in ders))
        write_private(key, key_pem(FileKeys(folder / "state" / "keys").open(pair.transport_key)))
        return Dial(
            host=connection["host"],
            port=connection["port"],
            server_name=connection["serverName"],
            client_id=f"{self._loot.id}-{secrets.token_hex(16)}",
            context=client_context(folder / "provider-root.pem", chain, key),
            clean=True,
        )
