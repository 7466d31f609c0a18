"""A wire: one line from CONNECT to its end, told to the owner as events.

Rule: a line has one end, with the first reason known; what a hostile broker sends can end the line, never the process.
A message is acknowledged by the owner alone. Source: MQTT 3.1.1; protocol section 2; ``line`` is the vocabulary.
"""

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from fleetward_broker.client import RECORD_BYTES, FedClient
from fleetward_broker.dial import detail_of
from fleetward_broker.gate import MAX_PACKET_BYTES
from fleetward_broker.line import Arrived, Connected, Delivered, Dial, Event, LineId, Loss, Lost, Token
from fleetward_broker.packets import Publish
from fleetward_schemas.errors import LocalMistake

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties

MOST_UNSENT_BYTES = 4 * 1024 * 1024
MOST_UNACKNOWLEDGED_BYTES = 16 * 1024 * 1024
A_MESSAGE_BYTES = 512  # what one costs beside its bytes while it is remembered
REFUSED = 0x80  # in SUBACK


class Wire:
    """One line from CONNECT to its end. ``end`` is set once, with the first reason known."""

    def __init__(
        self,
        line: LineId,
        dial: Dial,
        sock: socket.socket,
        *,
        tell: Callable[[Event], None],
        wants: Callable[["Wire"], None],
    ) -> None:
        self.line = line
        self.dial = dial
        self.fd = sock.fileno()
        self.end: Lost | None = None
        self.is_connected = False
        self.is_closing = False
        self._sock = sock
        self._tell = tell
        self._answered = False
        self._session_present = False
        self._half_closed = False
        self._tokens: dict[int, tuple[Token, int]] = {}
        self._unacknowledged_bytes = 0
        self._client = self._start(wants)

    def _start(self, wants: Callable[["Wire"], None]) -> FedClient:
        client = FedClient(self.dial, lambda: wants(self), self._hear)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.start(self._sock, self.dial)
        return client

    @property
    def wants_write(self) -> bool:
        """Whether something is left to write."""
        return self._client.want_write()

    def read(self) -> None:
        """Take one TLS record's worth of packets."""
        if self.is_closing:
            self._discard()
            return
        self._check(self._client.read_record(lambda: self.end is None))

    def write(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        code = self._client.loop_write()
        if not self.is_closing:
            self._check(code)
        elif not self._half_closed and not self._client.want_write():
            self._half_close()

    def publish(self, token: Token, topic: str, payload: bytes, *, qos: int, retain: bool) -> bool:
        """Queue a publish; False when the line takes none: not connected, or too much is unsent.

        A broker that acknowledges nothing ends the line: what it owes would be remembered for ever.
        """
        if not self.is_connected or self.end is not None or self._client.unsent_bytes > MOST_UNSENT_BYTES:
            return False
        if 4 + len(topic.encode()) + len(payload) > MAX_PACKET_BYTES:
            raise LocalMistake(f"{topic}: {len(payload)} bytes, a packet holds {MAX_PACKET_BYTES}")
        if self._unacknowledged_bytes > MOST_UNACKNOWLEDGED_BYTES:
            self.finish(Loss.DROPPED, f"{len(self._tokens)} publishes were not acknowledged")
            return False
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if qos:
            size_bytes = len(topic) + len(payload) + A_MESSAGE_BYTES
            self._tokens[info.mid] = token, size_bytes
            self._unacknowledged_bytes += size_bytes
        return True

    def ack(self, arrived: Arrived) -> None:
        """Queue one PUBACK; nothing on a line that is closing, since the broker no longer counts it."""
        if self.end is None and not self.is_closing:
            self._client.say_received(arrived.mid)

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Queue one SUBSCRIBE beside those of the dial; what the broker answers to it is left alone."""
        if self.is_connected and self.end is None and topics:
            self._client.subscribe([(topic, 1) for topic in topics])

    def unsubscribe(self, topics: tuple[str, ...]) -> None:
        """Queue one UNSUBSCRIBE."""
        if self.is_connected and self.end is None and topics:
            self._client.unsubscribe(list(topics))

    def close(self) -> None:
        """Queue DISCONNECT behind all that is queued; from here on what arrives is discarded."""
        if not self.is_closing:
            self.is_connected = False
            self.is_closing = True
            self._client.say_goodbye()

    def keep_alive(self) -> None:
        """Ping when it is time, and give up a peer that does not answer."""
        if not self.is_closing:
            self._check(self._client.loop_misc(), "no sign of life")

    def finish(self, loss: Loss, detail: str = "") -> None:
        """Note why the line ends, unless a reason is known already."""
        self.is_connected = False
        if self.end is None:
            self.end = Lost(self.line, Loss.CLOSED if self.is_closing else loss, detail)

    def drop(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _check(self, code: MQTTErrorCode, reason: str = "") -> None:
        if code is MQTTErrorCode.MQTT_ERR_SUCCESS and self._client.socket() is not None:
            return
        failure = self._client.failure
        when = "" if self._answered else " before CONNACK"
        detail = reason or (detail_of(failure) if failure else f"{code.name}{when}")
        # TLS 1.3: a broker that refuses our certificate says so after the handshake, in place of CONNACK.
        if not self._answered and isinstance(failure, ssl.SSLError):
            self.finish(Loss.TLS_REFUSED, detail)
        elif not self._answered and code is MQTTErrorCode.MQTT_ERR_PROTOCOL:
            self.finish(Loss.CONNECT_REFUSED, "the peer does not speak MQTT 3.1.1")
        else:
            self.finish(Loss.DROPPED, detail)

    def _half_close(self) -> None:
        """Say that nothing more follows, and wait for the broker to close: a reset could overtake DISCONNECT."""
        self._half_closed = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.finish(Loss.CLOSED, detail_of(error))

    def _discard(self) -> None:
        try:
            if not self._sock.recv(RECORD_BYTES):
                self.finish(Loss.CLOSED)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self.finish(Loss.CLOSED, detail_of(error))

    def _on_connect(
        self, client: Client, data: object, flags: ConnectFlags, reason: ReasonCode, properties: "Properties | None"
    ) -> None:
        del data, properties
        if self._answered:
            self.finish(Loss.DROPPED, "a second CONNACK")
            return
        self._answered = True
        self._session_present = flags.session_present
        if reason.is_failure:
            self.finish(Loss.CONNECT_REFUSED, str(reason))
        elif self.dial.subscriptions:
            client.subscribe(list(self.dial.subscriptions))
        else:
            self._connected()

    def _on_subscribe(
        self, client: Client, data: object, mid: int, reasons: list[ReasonCode], properties: "Properties | None"
    ) -> None:
        del client, data, mid, properties
        if self.is_connected:
            return  # to one made later: its owner sees by what comes, or does not
        wanted = [name for name, _ in self.dial.subscriptions]
        refused = [name for name, reason in zip(wanted, reasons, strict=False) if reason.value >= REFUSED]
        if refused or len(reasons) != len(wanted):
            self.finish(Loss.SUBSCRIBE_REFUSED, ", ".join(refused) or f"{len(reasons)} of {len(wanted)} answered")
        else:
            self._connected()

    def _connected(self) -> None:
        if not self.is_connected and self.end is None:
            self.is_connected = True
            self._tell(Connected(self.line, self._session_present))

    def _hear(self, said: Publish) -> None:
        self._tell(Arrived(self.line, *said))

    def _on_publish(self, client: Client, data: object, mid: int, *_: Any) -> None:
        del client, data
        token, size_bytes = self._tokens.pop(mid, (None, 0))
        self._unacknowledged_bytes -= size_bytes
        if token is not None:
            self._tell(Delivered(self.line, token))
