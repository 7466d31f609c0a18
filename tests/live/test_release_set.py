"""The repository on the line: a bare paho client reads it by name, and python-tuf believes it, on either broker."""

import base64
import json
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx
import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_private
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_broker.tls import client_context
from fleetward_sandbox.provision import Made
from fleetward_schemas.jws import Alg
from fleetward_schemas.topics import release
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.releases import online
from fleetward_server.releases.init import Wish
from fleetward_server.releases.shelf import open_repository, open_shelf
from tests.live.house import BROKERS, House, alive
from tests.server.releaser import SECRET, Maker
from tests.server.tufclient import Client

pytestmark = pytest.mark.live

READ = ("read.pem", "read.key.pem")
ABSENT_S = 0.5
HERE_S = 120.0
"""260 files come at a pace that leaves room for devices, some 7 s of it."""


class Reader:
    """paho and nothing of ours: one subscription a file, as the wire says."""

    def __init__(self, house: House, made: Made) -> None:
        folder, config = made.folder, load(house.folder)
        key, issuer = make_key(Alg.EDDSA), open_issuer(config, "device-ca")
        start = datetime.now(UTC) - timedelta(seconds=60)
        subject = Subject(made.id, config.provider.name)
        leaf = profiles.issue(profiles.TRANSPORT, subject, key.public_key(), issuer, start=start)
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, issuer.certificate))
        (folder / READ[0]).write_bytes(chain)
        write_private(folder / READ[1], key_pem(key))
        self.files: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{made.id}-{secrets.token_hex(8)}")
        context = ssl.create_default_context(cafile=str(folder / "provider-root.pem"))
        context.load_cert_chain(*(folder / name for name in READ))
        self.client.tls_set_context(context)
        self.client.on_message = lambda _, __, message: self.files.put((message.topic, message.payload))
        there = threading.Event()
        self.client.on_connect = lambda *_: there.set()
        self.client.connect("localhost", house.port)
        self.client.loop_start()
        assert there.wait(HERE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is absent: the next root is after a while, and no other may be."""
        topic = release(name)
        self.client.subscribe(topic, 1)
        came, payload = "", b""
        try:
            while came != topic:
                # What is told anew while it is read comes twice, the second time after we have left.
                came, payload = self.files.get(timeout=ABSENT_S if name.endswith(".root") else HERE_S)
        except queue.Empty:
            return None
        finally:
            self.client.unsubscribe(topic)
        return metadata_of(payload)

    def every(self, count: int) -> dict[str, bytes]:
        """Return all that is retained."""
        self.client.subscribe(release("+"), 1)
        came = [self.files.get(timeout=HERE_S) for _ in range(count)]
        self.client.unsubscribe(release("+"))
        return {topic.rpartition("/")[2]: metadata_of(payload) for topic, payload in came}


def metadata_of(payload: bytes) -> bytes:
    said = json.loads(unpadded(payload.split(b".")[1]))
    assert said["kind"] == "release"
    assert said["seq"] == 0
    return unpadded(said["body"]["metadata"].encode())


def unpadded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


@pytest.fixture(params=BROKERS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "house", serve=False, broker=request.param) as made:
        yield made


def read_by(client: Client, path: str, within_s: float = HERE_S) -> bool:
    """Say whether a target is found, looking again while it is not."""
    deadline = time.monotonic() + within_s
    while client.find(path) is None:
        if time.monotonic() > deadline:
            return False
    return True


def test_the_set_is_read_by_name_and_believed_by_python_tuf(house, tmp_path, figure):
    maker = Maker(tmp_path / "maker", house.folder)
    maker.operator.make_repository(Wish(maker.keys_folder, SECRET))
    first = maker.release(7)
    house.serve()
    began = time.monotonic()
    (made,) = house.provision(1)
    root = (made.folder / "release-root.json").read_bytes()
    with Reader(house, made) as reader:
        client = Client(tmp_path / "client", reader.read, root)
        assert read_by(client, first)
        figure(f"releases, {house.broker}: 260 files at the broker {time.monotonic() - began:.1f} s after the start")
        whole = open_repository(house.folder)
        assert reader.every(len(whole.files)) == dict(whole.files)
        second = maker.release(8)
        began = time.monotonic()
        assert read_by(client, second)
        figure(f"releases, {house.broker}: a release is read {time.monotonic() - began:.1f} s after it was published")
        assert client.find(first) is not None


def test_a_broker_that_lost_everything_is_told_everything_again(house, tmp_path):
    maker = Maker(tmp_path / "maker", house.folder)
    maker.operator.make_repository(Wish(maker.keys_folder, SECRET))
    path = maker.release(7)
    house.serve()
    (made,) = house.provision(1)
    with Reader(house, made) as reader:
        assert read_by(Client(tmp_path / "client", reader.read, (made.folder / "release-root.json").read_bytes()), path)
    for store in house.folder.rglob("*"):
        if store.name in {"broker.db", "mosquitto.db"}:
            store.unlink()
    house.kill("broker")
    house.wait(
        lambda: "line up" in (house.folder / "server.log").read_text().partition("line lost")[2], "line up again"
    )
    with Reader(house, made) as reader:
        again = Client(tmp_path / "again", reader.read, (made.folder / "release-root.json").read_bytes())
        assert read_by(again, path)
        assert reader.every(260).keys() == open_repository(house.folder).files.keys()


def test_a_server_at_work_says_its_roles_anew(house, tmp_path):
    maker = Maker(tmp_path / "maker", house.folder)
    maker.now -= timedelta(hours=13)
    maker.operator.make_repository(Wish(maker.keys_folder, SECRET))
    before = online.numbers(open_repository(house.folder))
    house.serve()
    house.wait(lambda: online.numbers(open_repository(house.folder)) != before, "said anew")
    after = open_repository(house.folder)
    assert online.numbers(after).timestamp > before.timestamp
    assert after.ends()["timestamp"] > datetime.now(UTC) + timedelta(hours=23)


def test_bytes_are_served_beside_the_broker_once_there_is_a_repository(tmp_path):
    with House(tmp_path / "house") as house:
        assert house.found()["artifacts_port"] is None
        maker = Maker(tmp_path / "maker", house.folder)
        maker.operator.make_repository(Wish(maker.keys_folder, SECRET))
        path = maker.release(7)
        house.wait(lambda: house.found().get("artifacts_port"), "bytes are served")
        (made,) = house.provision(1)
        with Reader(house, made):
            context = client_context(made.folder / "provider-root.pem", *(made.folder / name for name in READ))
        target = open_shelf(load(house.folder)).targets[path]
        assert httpx.get(target.url, verify=context, timeout=60).content == b"firmware"
        port = house.found()["artifacts_port"]
        house.kill("artifacts")
        house.wait(lambda: alive(int(house.found()["artifacts"])), "it is started again")
        assert house.found()["artifacts_port"] == port
        assert httpx.get(target.url, verify=context, timeout=60).content == b"firmware"
        assert house.stop() == 0
