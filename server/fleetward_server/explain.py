"""What one envelope on the line is, judged as the server judges it; of what fails, nothing but the code is told.

Uplink is judged by the register and its anchors, downlink by the provider's own service CA. Numbers (``seq``) are not
judged: an onlooker sees what the server has already taken. Source: protocol section 3; C6, C10.
"""

from dataclasses import dataclass
from datetime import datetime

from fleetward_schemas.certificates import Anchors, key_thumbprint, server_signer
from fleetward_schemas.envelope import Members, Opened, Trust, open_sealed, read_body
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.header import Header
from fleetward_schemas.jws import PublicKey
from fleetward_schemas.topics import Direction, Principal, read_topic
from fleetward_server.caches import Caches
from fleetward_server.intake import Anchorage, Uplink, anchored
from fleetward_server.store import Store, Unit

HOLDS = "ok"
CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Explained:
    """One message. verdict: ``ok`` or the code it is refused with; then kind, id, seq, age_s and signer are None.

    age_s: how long before ``at`` it was stamped. signer: thumbprint of the certificate or key that signed.
    """

    at: datetime
    topic: str
    size_bytes: int
    retained: bool
    verdict: str
    kind: str | None = None
    id: str | None = None
    seq: int | None = None
    age_s: float | None = None
    signer: str | None = None


class Downlink:
    """Trust in the provider's own server."""

    def __init__(self, own: Anchors, now: datetime) -> None:
        """Judge at ``now`` by the provider's root."""
        self._own = own
        self._now = now

    def signer(self, header: Header, _: Principal | None, __: Members) -> PublicKey:
        """Return the server's key.

        Raises:
            Refused: ``wrong-server``.
        """
        if header.x5c is None:
            raise Refused(Code.WRONG_SERVER, "no chain")
        return server_signer(self._own.verify(header.x5c, self._now)).key


class Onlooker:
    """Explains what comes by."""

    def __init__(self, store: Store, own: Anchors) -> None:
        """Judge by ``store`` as it is when a message comes, and by the provider's own root."""
        self._store = store
        self._own = own
        self._anchorage: Anchorage | None = None
        self._caches = Caches()

    def explain(self, topic: str, payload: bytes, now: datetime, *, retained: bool = False) -> Explained:
        """Judge one message."""
        size = len(payload)
        if not payload:
            return Explained(now, topic, size, retained, CLEARED)
        try:
            opened, signer = self._opened(topic, payload, now)
        except Refused as refusal:
            return Explained(now, topic, size, retained, refusal.code)
        age_s = round((now - opened.at).total_seconds(), 3)
        told = (opened.kind.name, opened.id, opened.members.seq, age_s, signer)
        return Explained(now, topic, size, retained, HOLDS, *told)

    def _opened(self, topic: str, payload: bytes, now: datetime) -> tuple[Opened, str]:
        with self._store.glance() as rows:
            trust = _Noting(self._trust(rows, topic, now))
            opened = open_sealed(payload, topic, trust, now)
            read_body(opened)
            return opened, trust.key

    def _trust(self, rows: Unit, topic: str, now: datetime) -> Trust:
        if read_topic(topic).direction is Direction.UP:
            return Uplink(rows, self._anchors(rows.epochs()[0]), self._caches, now)
        return Downlink(self._own, now)

    def _anchors(self, epoch: int) -> Anchorage:
        if self._anchorage is None or self._anchorage.epoch != epoch:
            self._anchorage = anchored(self._own, self._store.ftm_roots(), epoch)
        return self._anchorage


class _Noting:
    """Passes the question on, and notes whose key was the answer."""

    def __init__(self, inner: Trust) -> None:
        self._inner = inner
        self.key = ""

    def signer(self, header: Header, principal: Principal | None, members: Members) -> PublicKey:
        found = self._inner.signer(header, principal, members)
        self.key = header.x5t or key_thumbprint(found)
        return found
