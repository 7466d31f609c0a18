"""What is relied on of amqtt: every member that is replaced or used is still there, and is still called as we think."""

import asyncio
import inspect
import ssl
import time
from pathlib import Path

import pytest
from amqtt import broker as amqtt_broker
from amqtt.adapters import BufferReader, BufferWriter
from amqtt.broker import Broker, Server
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from fleetward_broker.embedded.broker import FleetBroker
from fleetward_broker.embedded.config import Config, Listen, Tls
from fleetward_broker.embedded.connection import Clocks
from fleetward_schemas.certificates import Unit
from tests.broker.sessions import MemoryStore
from tests.live.brokerhouse import Pki
from tests.live.rawmqtt import connect

REPLACED = {
    "_create_server_instance": ["self", "listener_name", "listener_type", "address", "port", "ssl_context"],
    "_create_ssl_context": ["listener"],
    "_client_connected": ["self", "listener_name", "reader", "writer"],
    "start": ["self"],
    "shutdown": ["self"],
}
USED = {
    ConnectPacket.from_stream: ["reader", "fixed_header", "variable_header"],
    SubscribePacket.from_stream: ["reader", "fixed_header", "variable_header"],
    UnsubscribePacket.from_stream: ["reader", "fixed_header", "variable_header"],
    ConnackPacket.build: ["session_parent", "return_code"],
    SubackPacket.build: ["packet_id", "return_codes"],
    UnsubackPacket.build: ["packet_id"],
    BufferReader: ["buffer"],
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_we_replace_is_there_with_the_same_signature(name):
    theirs, ours = getattr(Broker, name), getattr(FleetBroker, name)
    assert list(inspect.signature(theirs).parameters) == REPLACED[name]
    assert list(inspect.signature(ours).parameters) == REPLACED[name]
    assert inspect.iscoroutinefunction(theirs) is inspect.iscoroutinefunction(ours)


@pytest.mark.parametrize("member", USED, ids=lambda member: member.__qualname__)
def test_what_we_use_is_there_with_the_same_signature(member):
    assert list(inspect.signature(member).parameters) == USED[member]


@pytest.mark.parametrize("name", ["ws_connected", "stream_connected", "external_connected"])
def test_every_way_in_of_amqtt_leads_to_the_one_we_close(name):
    assert "self._client_connected(" in inspect.getsource(getattr(Broker, name))


def test_listening_goes_through_what_we_replace():
    source = inspect.getsource(Broker._start_listeners)
    assert "self._create_server_instance(" in source
    assert "self._create_ssl_context(" in source
    assert "start_server" not in source


def test_nothing_else_of_amqtt_takes_connections():
    assert inspect.getsource(amqtt_broker).count("start_server(") == 1
    assert inspect.getsource(amqtt_broker).count("websockets.serve(") == 1


def test_the_values_we_pass_are_understood():
    assert list(inspect.signature(Server).parameters) == ["listener_name", "server_instance", "max_connections"]
    assert {"bind", "ssl", "cafile", "certfile", "keyfile"} <= set(inspect.signature(ListenerConfig).parameters)
    assert {"listeners", "plugins"} <= set(inspect.signature(BrokerConfig).parameters)
    assert ListenerType.TCP == "tcp"
    assert ssl.HAS_TLSv1_3


@pytest.fixture
def config(tmp_path: Path) -> Config:
    pki = Pki(tmp_path)
    crls = tuple(pki.folder / f"{unit}.crl.pem" for unit in Unit)
    tls = Tls(pki.folder / "broker.pem", pki.folder / "broker.key.pem", pki.folder / "root.pem", crls)
    return Config(Listen(), tls, tmp_path / "unused.db")


def test_no_plugin_is_loaded_and_nobody_comes_in_by_amqtts_own_way(config):
    async def run() -> None:
        broker = FleetBroker(config, MemoryStore(), Clocks(time.monotonic, time.time))
        await broker.start()
        manager = broker.plugins_manager
        assert (manager._plugins, manager._auth_plugins, manager._topic_plugins) == ([], [], [])
        writer = BufferWriter()
        await broker.external_connected(BufferReader(connect("anybody")), writer, "default")
        assert writer._stream.closed
        assert broker.sessions == {}
        await broker.shutdown()

    asyncio.run(run())
