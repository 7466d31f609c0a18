"""A real Mosquitto on our files: it judges as the gate does, an exported folder serves, and its death loses nothing."""

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward_broker import mosquitto_admin, profiles
from fleetward_broker.gate import Action, may
from fleetward_broker.mosquitto import Listen
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_broker.tls import client_context
from fleetward_schemas.certificates import Unit
from fleetward_schemas.topics import down, principal_of, up
from fleetward_server.brokers import export_mosquitto, program
from fleetward_server.config import load
from fleetward_server.init import Wish, make_provider
from tests.live.brokerhouse import SUFFIX, Badge
from tests.live.house import House
from tests.live.mosquittohouse import MosquittoProcess
from tests.live.rawmqtt import WAIT_S, RawClient, publish
from tests.live.test_kills import Senders, all_reported, check, keep_journals, settled, wait_for_part, written

pytestmark = [pytest.mark.live, pytest.mark.part]
SEED = int(os.environ.get("FLEETWARD_SEED", "20261124"))
DEVICE, OTHER = "a" * 26, "b" * 26
NAMES = (DEVICE, f"f-{DEVICE}", "server", "view-1")
KILLS, REPORTS = 6, 200


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    with MosquittoProcess(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture(autouse=True)
def _hang_up(broker: MosquittoProcess) -> Iterator[None]:
    yield
    broker.hang_up()


def badge(broker: MosquittoProcess, name: str) -> Badge:
    of = {DEVICE: (profiles.TRANSPORT, Unit.DEVICE), f"f-{DEVICE}": (profiles.FACTORY, Unit.FACTORY)}
    return broker.pki.badge(name, *of.get(name, (profiles.SERVICE_CLIENT, Unit.SERVICE)))


def topics() -> list[str]:
    whose = (DEVICE, OTHER, f"f-{DEVICE}", "view-1", "server")
    views = ["fw/v1/view/summary", "fw/v1/view/rollout/7"]
    return [make(one, "status") for one in whose for make in (up, down)] + [
        *views,
        "fw/v1/fleet/beacon",
        "fw/v1/fleet/release/3.root",
        "fw/v2/fleet/beacon",
        "elsewhere",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_real_one_lets_say_what_the_gate_lets_say(broker, name):
    principal = principal_of(name)
    with broker.server("#") as server, broker.enter(badge(broker, name)) as line:
        line.send(*(publish(topic, topic.encode(), qos=0) for topic in topics()))
        assert line.is_quiet()
        lawful = [t for t in topics() if may(principal, Action.PUBLISH, t) and t.startswith("fw/v1/")]
        assert [server.hear().topic for _ in lawful] == lawful
        assert server.is_quiet()


@pytest.mark.parametrize("name", NAMES)
def test_a_real_one_lets_hear_what_the_gate_lets_hear(broker, name):
    principal = principal_of(name)
    with broker.server() as server, broker.enter(badge(broker, name)) as line:
        assert line.subscribe("#") == [1]
        for topic in topics():
            server.publish(topic)
        lawful = [t for t in topics() if may(principal, Action.RECEIVE, t)]
        assert [line.hear().topic for _ in lawful] == lawful
        assert line.is_quiet()


def test_many_are_cut_in_one_go_and_nothing_is_left_behind(broker):
    badges = [broker.device() for _ in range(150)]
    lines = [broker.enter(one) for one in badges]
    with broker.enter(broker.device()) as other:
        mosquitto_admin.cut(broker.folder, [one.name for one in badges])
        assert all(line.is_closed() for line in lines)
        assert other.is_quiet()
    assert badges[0].name not in (broker.folder / "admin.json").read_text()


@pytest.mark.usefixtures("many_open")
def test_who_holds_many_files_cuts_too(broker):
    one = broker.device()
    line = broker.enter(one)
    mosquitto_admin.cut(broker.folder, [one.name])
    assert line.is_closed()


def test_a_broker_that_is_not_there_is_not_told(tmp_path):
    with pytest.raises(NotTold, match=r"admin\.password"):
        mosquitto_admin.cut(tmp_path, [DEVICE])
    (tmp_path / "admin.password").write_text("x")
    with pytest.raises(NotTold, match=r"admin\.sock"):
        mosquitto_admin.cut(tmp_path, [DEVICE])


def test_a_wrong_password_tells_nothing(broker):
    path = broker.folder / "admin.password"
    right = path.read_text()
    path.write_text("wrong")
    with pytest.raises(NotTold, match="no answer"):
        mosquitto_admin.cut(broker.folder, [DEVICE])
    path.write_text(right)
    mosquitto_admin.cut(broker.folder, [DEVICE])


def test_an_exported_folder_serves(tmp_path):
    provider, out = tmp_path / "provider", tmp_path / "mosquitto"
    make_provider(provider, Wish(), datetime.now(UTC))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    export_mosquitto(load(provider), out, out, Listen("127.0.0.1", port))
    own = [] if os.getuid() else ["user root"]
    (out / "mosquitto.conf").write_text("\n".join([*own, (out / "mosquitto.conf").read_text()]))
    pki = provider / "pki"
    with subprocess.Popen(
        [program("mosquitto"), "-c", "mosquitto.conf"], cwd=out, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + WAIT_S
        while not (out / "admin.sock").is_socket():
            assert time.monotonic() < deadline
        with RawClient(port, client_context(pki / "root.pem", pki / "server.pem", pki / "server.key.pem")) as server:
            assert server.enter(f"server-{SUFFIX}")[0] == 0
        process.terminate()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_of_the_broker_lose_nothing_between_the_ends(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with House(tmp_path, broker="mosquitto") as house:
        senders = Senders(house)
        house.wait(lambda: all_reported(house), "all report")
        senders.stop()
        keep_journals(senders)
        senders.process = senders.start()
        for _ in range(KILLS):
            wait_for_part(house, "broker")
            moment = time.monotonic() + chance.uniform(0.3, 1.5)
            house.wait(lambda: time.monotonic() >= moment, "the drawn moment")  # noqa: B023 - called at once
            house.kill("broker")
        house.wait(lambda: written(senders) >= REPORTS, f"{REPORTS} reports are written", 300)
        house.wait(lambda: settled(house, senders), "what was written is stored", 300)
        senders.stop()
        for folder in senders.folders():
            check(house, folder)
        print(f"\n{KILLS} kills of Mosquitto (seed {SEED}), {written(senders)} reports, each stored once and in order")
