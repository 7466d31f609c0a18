"""A usurper: everything that can be stolen from the server, used against devices.

It opens TLS as ``server`` and signs with a seal that the service CA certified, as the worker's own is; it lacks the
offline keys of the releases, and the power to take a counter back that a device has committed.
Source: protocol section 6; S7, C7, C8.
"""

import secrets
import time
from datetime import UTC, datetime
from hashlib import sha256

from fleetward_broker.line import Connected, Delivered, Dial, Lost
from fleetward_broker.link import SelectorLink
from fleetward_broker.tls import client_context
from fleetward_schemas.envelope import Draft, seal
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.moment import to_ms
from fleetward_schemas.strict import b64url
from fleetward_schemas.topics import down, release
from fleetward_schemas.upgrade import Assignment, Hashes, Release, ReleaseFile
from fleetward_server.authority import Authority
from fleetward_server.config import Config
from fleetward_server.releases.shelf import Target
from fleetward_server.state import Device

WAIT_S = 60.0
IMPLANT = b"what no release key has signed"


class Usurper:
    """A connection as the server, beside the server's own."""

    def __init__(self, config: Config, port: int) -> None:
        """Take a seal and connect; neither broker nor devices can tell, and need not.

        Raises:
            LocalMistake: no connection. KeyUnavailable, AuthorityProblem.
        """
        self._config, self._port = config, port
        self._seal = Authority(config).own_seal(datetime.now(UTC))
        self._seq = 0
        self._link = SelectorLink(time.monotonic)
        self._line = self._link.open(self._dial)
        self._wait(Connected)

    def assign(self, device: Device, *releases: Release, version: int | None = None) -> int:
        """Order a device to run ``releases``; return the assignment's version, by itself one of now."""
        now = datetime.now(UTC)
        number = version or to_ms(now)
        self._say(device.id, device.digital_id or "", Assignment(version=number, releases=list(releases)), now)
        return number

    def tell_file(self, file: str, raw: bytes) -> None:
        """Put a file of the repository at the broker, in place of the server's."""
        body = ReleaseFile(metadata=b64url(raw))
        self._publish(release(file), self._seal.identity, body, datetime.now(UTC), retain=True)

    def close(self) -> None:
        """Go."""
        self._link.close(self._line)
        self._wait(Lost)
        self._link.shutdown()

    def _say(self, device_id: str, digital_id: str, body: Assignment, now: datetime) -> None:
        # Not retained: the sandbox tidies up after itself.
        self._publish(down(device_id, "assignment"), digital_id, body, now, retain=False)

    def _publish(
        self, topic: str, digital_id: str, body: Assignment | ReleaseFile, now: datetime, *, retain: bool
    ) -> None:
        self._seq = max(self._seq + 1, to_ms(now))
        message_id = next_id(now, None, secrets.token_bytes(RANDOM_BYTES))
        raw = seal(Draft(topic, message_id, self._seq, digital_id, body), self._seal.seal, now)
        self._sent(self._link.publish(self._line, topic, raw, retain=retain))

    def _sent(self, token: object) -> None:
        self._wait(Delivered, token)

    def _wait(self, kind: type[Connected | Delivered | Lost], token: object = None) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for event in self._link.poll(0.1):
                if isinstance(event, kind) and token in {None, getattr(event, "token", None)}:
                    return
                if isinstance(event, Lost):
                    raise LocalMistake(f"the usurper's line: {event.loss} {event.detail}")
        raise LocalMistake("the broker did not answer the usurper")

    def _dial(self) -> Dial:
        pki = self._config.pki
        return Dial(
            host=self._config.broker.host,
            port=self._port,
            server_name=self._config.broker.host,
            client_id=f"server-{secrets.token_hex(16)}",
            context=client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem"),
            clean=True,
        )


def never_released(name: str, counter: int) -> Release:
    """Return a release that no repository knows, of any counter."""
    return Release(
        name=name,
        target=f"{name}/implant.bin",
        counter=counter,
        hashes=Hashes(sha256=b64url(sha256(IMPLANT).digest())),
        length=len(IMPLANT),
        url="https://localhost/implant.bin",
    )


def released(target: Target) -> Release:
    """Return a target of the shelf as an assignment says it."""
    return Release(
        name=target.name,
        target=target.path,
        counter=target.counter,
        hashes=Hashes(sha256=target.sha256),
        length=target.length,
        url=target.url,
    )
