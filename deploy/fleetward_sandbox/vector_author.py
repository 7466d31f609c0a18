"""Who writes the vectors: words that anybody can make again, and each party's messages sealed as that party seals them.

Source: protocol section 3.
"""

import hashlib
from datetime import datetime, timedelta

from fleetward_sandbox.vector_cases import Case
from fleetward_sandbox.vector_pki import BORN, NOW, PROVIDER, Cast, Party, der
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.envelope import Draft, Seal, seal
from fleetward_schemas.identity import Environment, ServerId, sign_identity
from fleetward_schemas.ids import next_id
from fleetward_schemas.moment import show_seconds, to_ms
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import b64url, show_der
from fleetward_schemas.topics import down, fleet, up

SEQ = to_ms(NOW)


def digest(word: str) -> str:
    """Return 32 bytes in base64url that anybody can make again: SHA-256 of ``word``."""
    return b64url(hashlib.sha256(word.encode()).digest())


def message_id(word: str) -> str:
    """Return the message id that belongs to ``word``."""
    return next_id(NOW, None, hashlib.sha256(word.encode()).digest()[:8])


def session(word: str) -> str:
    """Return 16 bytes in base64url."""
    return b64url(hashlib.sha256(word.encode()).digest()[:16])


class Author:
    """Seals accepted cases for one cast."""

    def __init__(self, cast: Cast) -> None:
        """Know who signs what and who believes whom."""
        self.cast = cast
        root = show_der(der(cast.pki.root.certificate))
        anchor = show_der(der(cast.anchor.certificate))
        self.trust_a = {
            "deviceCertificate": show_der(cast.device_a.chain[0]),
            "ftmCertificate": show_der(cast.ftm_a.chain[0]),
        }
        self.trust_b = {"deviceCertificate": show_der(cast.device_b.chain[0])}
        self.trust_factory = {"providerRoot": root, "ftmAnchor": anchor}
        self.trust_server = {"providerRoot": root}

    def from_a(self, name: str, kind: str, body: Body, at: datetime = NOW) -> Case:
        """Seal as device A: L1, RS256."""
        with_seal = Seal.by_thumbprint(self.cast.device_a.key, thumbprint(self.cast.device_a.chain[0]))
        draft = Draft(up(self.cast.id_a, kind), message_id(name), SEQ, self.cast.digital_id_a, body)
        return self._case(name, draft, with_seal, at, self.trust_a)

    def from_b(self, name: str, kind: str, body: Body) -> Case:
        """Seal as device B: L0, EdDSA."""
        with_seal = Seal.by_thumbprint(self.cast.device_b.key, thumbprint(self.cast.device_b.chain[0]))
        draft = Draft(up(self.cast.id_b, kind), message_id(name), SEQ, self.cast.digital_id_b, body)
        return self._case(name, draft, with_seal, NOW, self.trust_b)

    def from_factory(self, name: str, kind: str, body: Body, *, ftm: bool = False) -> Case:
        """Seal as a factory principal: device B by its factory key, or device A by its FTM."""
        cast = self.cast
        party, device = (cast.ftm_a, cast.id_a) if ftm else (cast.factory_b, cast.id_b)
        digital_id = cast.digital_id_a if ftm else cast.factory_digital_id_b
        draft = Draft(up(f"f-{device}", kind), message_id(name), 0, digital_id, body)
        return self._case(name, draft, _by_chain(party), NOW, self.trust_factory)

    def to_a(self, name: str, kind: str, body: Body, *, answers: str | None = None, factory: bool = False) -> Case:
        """Seal as the server, for device A. answers: the case whose message this replies to."""
        cast = self.cast
        draft = Draft(
            down(f"f-{cast.id_a}" if factory else cast.id_a, kind),
            message_id(name),
            SEQ,
            cast.digital_id_a,
            body,
            in_reply_to=None if answers is None else message_id(answers),
            expires=NOW + timedelta(days=1) if kind == "command" else None,
        )
        return self._case(
            name, draft, _by_chain(cast.server), NOW, self.trust_server | {"digitalId": cast.digital_id_a}
        )

    def to_all(self, name: str, kind: str, body: Body, *, topic: str | None = None) -> Case:
        """Seal as the server, for the fleet."""
        server = self.cast.server
        identity = ServerId(
            deviceProvider=PROVIDER, deviceProviderId="EXAMPLE", env=Environment.STAGING, dateTime=show_seconds(BORN)
        )
        text = sign_identity(identity, server.key, server.chain[0])
        draft = Draft(topic or fleet(kind), message_id(name), SEQ, text, body)
        return self._case(name, draft, _by_chain(server), NOW, self.trust_server | {"env": identity.env})

    def _case(self, name: str, draft: Draft, with_seal: Seal, at: datetime, trust: dict[str, str]) -> Case:
        raw = seal(draft, with_seal, at).decode()
        return Case(name, draft.topic, raw, NOW, trust, with_seal.key)


def _by_chain(party: Party) -> Seal:
    return Seal.by_chain(party.key, party.chain)
