"""paho, fed: it speaks MQTT 3.1.1, while its socket, its reads and its writes are in our hands.

It is given a socket that is already through its handshake, and never a thread, a log or a second connection. It
receives each packet in three small reads and sends each in a write of its own, and over TLS every write is a record
with its own seal and system call: so one record is read at a time, and what one turn has queued leaves in one write.
A PUBLISH is read here and its PUBACK written here, since paho takes 15 us over what takes 3; all else is paho's.
Bounds: a packet of at most 64 KiB, a record per ``read``, 4 MiB unsent. Source: MQTT 3.1.1; protocol section 2.
"""

import socket
from collections.abc import Callable

from paho.mqtt.client import Client, MQTTMessageInfo, time_func
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from fleetward_broker.framing import Packet, Splitter
from fleetward_broker.line import Dial
from fleetward_broker.packets import Publish, puback, read_publish
from fleetward_schemas.errors import LocalMistake, Refused

RECORD_BYTES = 16 * 1024  # RFC 8446 5.1: no record holds more, so one read empties what TLS holds back
MOST_PER_WRITE = 256 * 1024
GOODBYE = b"\xe0\x00"  # DISCONNECT
# CONNACK, PUBACK, SUBACK, UNSUBACK, PINGRESP: beside PUBLISH a broker has nothing else to say to a client that never
# asks for QoS 2, and all else would make paho answer or remember.
PUBLISH = 3
ELSE_SAID_BY_BROKERS = frozenset({2, 4, 9, 11, 13})


class FedClient(Client):
    """paho with its socket, its reads and its writes in our hands."""

    def __init__(self, dial: Dial, wants_write: Callable[[], None], hear: Callable[[Publish], None]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            dial.client_id,
            clean_session=dial.clean,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        # 0 is no limit: the owner's outbox holds it, and with one paho walks all that is in flight at every PUBACK.
        self.max_inflight_messages = 0
        self.failure: OSError | None = None
        self._wants_write = wants_write
        self._hear = hear
        self._given: socket.socket | None = None
        self._splitter = Splitter()
        self._packet = memoryview(b"")
        self._unsent = bytearray()
        self._deaf = False

    def start(self, sock: socket.socket, dial: Dial) -> None:
        """Queue CONNECT on a socket that is ready for it."""
        self._given = sock
        if dial.will is not None:
            self.will_set(dial.will.topic, dial.will.payload, qos=1)
        self.connect_async(dial.host, dial.port, dial.keep_alive_s)
        self.reconnect()

    def read_record(self, go_on: Callable[[], bool]) -> MQTTErrorCode:
        """Read at most one TLS record and handle every packet that ends in it, while ``go_on``."""
        try:
            record = super()._sock_recv(RECORD_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError as error:
            self.failure = error
            record = b""
        if not record:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        self._last_bytes_received = time_func()
        try:
            return self._handle(record, go_on)
        except Refused:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _handle(self, record: bytes, go_on: Callable[[], bool]) -> MQTTErrorCode:
        for packet in self._splitter.feed(record):
            if not go_on():
                break
            if packet.kind == PUBLISH:
                self._hear(read_publish(packet))
            elif code := self._hand_to_paho(packet):
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _hand_to_paho(self, packet: Packet) -> MQTTErrorCode:
        if packet.kind not in ELSE_SAID_BY_BROKERS:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._packet = memoryview(packet.raw)
        return self.loop_read()

    def say_received(self, packet_id: int) -> None:
        """Queue a PUBACK."""
        self._queue(puback(packet_id))

    def say_goodbye(self) -> None:
        """Queue DISCONNECT behind all that is queued. paho's own would close before it is on its way."""
        self._queue(GOODBYE)

    @property
    def unsent_bytes(self) -> int:
        """How much the socket has not taken yet."""
        return len(self._unsent)

    def want_write(self) -> bool:
        """Say whether anything is unsent, on a socket that still takes it."""
        return bool(self._unsent) and not self._deaf

    def _create_socket(self) -> socket.socket:
        given, self._given = self._given, None
        if given is None:
            raise LocalMistake("a line is one connection: paho may not dial")
        return given

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._packet:
            raise BlockingIOError
        part, self._packet = self._packet[:bufsize], self._packet[bufsize:]
        return bytes(part)

    def _packet_queue(
        self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        del command, mid, qos, info
        self._queue(packet)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _queue(self, packet: bytes | bytearray) -> None:
        if not self._unsent:
            self._wants_write()
        self._unsent += packet

    def _packet_write(self) -> MQTTErrorCode:
        # paho's own queue is always empty: this notes the time, for the next ping.
        code = super()._packet_write()
        return code or self._push()

    def _push(self) -> MQTTErrorCode:
        while self._unsent and not self._deaf:
            with memoryview(self._unsent) as whole, whole[:MOST_PER_WRITE] as part:
                sent = self._send(part)
            if not sent:
                return MQTTErrorCode.MQTT_ERR_AGAIN
            del self._unsent[:sent]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _send(self, part: memoryview) -> int:
        try:
            return self._sock_send(part)  # type: ignore[arg-type]
        except BlockingIOError:
            return 0
        except OSError:
            # The peer may have said why before it closed: whoever reads on finds its alert, or the end of the stream.
            self._deaf = True
            return 0
