"""The worker's own line to the broker: opened, lost and opened again, and what arrives on it before it is whole.

Source: protocol section 5 "Operation".
"""

import secrets

from fleetward_broker.line import Arrived, Dial, LineId, Link, backoff_s
from fleetward_broker.tls import client_context
from fleetward_schemas.topics import ROOT
from fleetward_server.client_id import client_id_of
from fleetward_server.config import Config

KEEP_ALIVE_S = 20
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 3.0


class BrokerLine:
    """One line at a time. id: of the one that stands or is being opened; stands: whether it does."""

    def __init__(self, config: Config, port: int, link: Link) -> None:
        """Open none yet. port: where the broker listens now."""
        self._config = config
        self._port = port
        self._link = link
        self._client_id = client_id_of(config.folder)
        self._attempts = 0
        self._early: list[Arrived] = []
        self.id: LineId | None = None
        self.stands = False

    def open(self, after_s: float = 0.0) -> None:
        """Have a line opened, after a while."""
        self.id = self._link.open(self._dial, after_s=after_s)

    def open_again(self) -> None:
        """Have another opened: the later, the oftener it was lost before it stood."""
        self.open(backoff_s(self._attempts, secrets.randbelow(1000) / 1000, first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S))

    def close(self) -> None:
        """Leave it politely; its end is told as ``Lost``."""
        if self.id is not None:
            self._link.close(self.id)

    def came_up(self) -> None:
        """Note that it stands now."""
        self.stands, self._attempts = True, 0

    def lost(self) -> None:
        """Note that it is gone."""
        self.stands, self.id = False, None
        self._attempts += 1

    def answerable(self, arrived: list[Arrived]) -> list[Arrived]:
        """Return what can be answered: what a kept session delivers before the line is whole waits until it is.

        Where the line is lost meanwhile, it comes again: it was not acknowledged.
        """
        if self.stands and not self._early:
            return arrived
        self._early = [one for one in (*self._early, *arrived) if one.line == self.id]
        if not self.stands:
            return []
        found, self._early = self._early, []
        return found

    def _dial(self) -> Dial:
        pki = self._config.pki
        return Dial(
            host=self._config.broker.host,
            port=self._port,
            server_name=self._config.broker.host,
            client_id=self._client_id,
            context=client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem"),
            clean=False,
            subscriptions=((f"{ROOT}/d/+/up/+", 1),),
            keep_alive_s=KEEP_ALIVE_S,
        )
