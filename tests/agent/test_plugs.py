"""Plugs become devices and leave again: on a bus in memory, with a network and a server in memory."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fleetward_agent.config import load_site
from fleetward_agent.lock import Busy, alone
from fleetward_agent.plug import Move, Plugged
from fleetward_agent.plugs import UDEV, Plugs
from fleetward_agent.programs import Answer
from fleetward_agent.run import Host
from fleetward_broker.line import Readable
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.presence import Status
from tests.agent.test_main import provisioned
from tests.world import Provider, Stage

TABLE = """
[keys]
device_alg = "EdDSA"
[[driver]]
name = "acme"
vendor = "1d6b"
folder = "{serialNo}"
fields = { serialNo = "{ID_SERIAL_SHORT}" }
"""
TURNS = 400


class FakeBus:
    """A bus that holds what it is given. looks: how often somebody looked."""

    def __init__(self) -> None:
        self.things: set[Plugged] = set()
        self.waiting = 0
        self.looks = 0

    def drain(self) -> int:
        taken, self.waiting = self.waiting, 0
        return taken

    def scan(self) -> frozenset[Plugged]:
        self.looks += 1
        return frozenset(self.things)


class Desk:
    """A host with a bus. serial "SN-9" is provisioned."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        (folder / "agent.toml").write_text(TABLE)
        self.folder = folder
        self.stage = Stage(provider, serial="SN-9")
        self.host = Host(self.stage.link, [], self.stage.world())
        self.bus = FakeBus()
        self.plugs = Plugs(load_site(folder / "agent.toml"), self.host, self.bus, self.stage.world())

    def provision(self, provider: Provider) -> None:
        (self.folder / "SN-9").mkdir()
        provisioned(self.folder / "SN-9", provider)

    def put(self, *things: Plugged) -> None:
        """Change what is there, and let an event tell of it."""
        self.bus.things = set(things)
        self.bus.waiting += 1
        self.stage.link._events.append(Readable(UDEV))

    def until(self, done: Callable[[], object]) -> None:
        for _ in range(TURNS):
            if done():
                return
            self.plugs.turn(0.2)
            self.stage.server.serve()
        raise AssertionError(f"not within {TURNS} turns; log: {self.stage.log[-8:]}")

    def said(self, event: str) -> list[Mapping[str, str | int]]:
        return self.stage.events(event)


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    made = Desk(tmp_path, provider)
    made.provision(provider)
    return made


def scanner(port: str = "1-1", number: int = 1, serial: str = "SN-9", vendor: str = "1d6b") -> Plugged:
    properties = {
        "SUBSYSTEM": "usb",
        "DEVTYPE": "usb_device",
        "ID_VENDOR_ID": vendor,
        "ID_SERIAL_SHORT": serial,
        "DEVNUM": str(number),
    }
    return Plugged(port, tuple(sorted(properties.items())))


def online(desk: Desk, times: int = 1) -> Callable[[], bool]:
    return lambda: len(desk.said("online")) == times


def test_what_is_there_at_the_start_is_attached(desk: Desk) -> None:
    desk.bus.things = {scanner()}
    desk.until(online(desk))

    assert [one["device"] for one in desk.said("plugged")] == [desk.stage.id]


def test_what_is_pulled_out_says_unplugged_and_is_forgotten(desk: Desk) -> None:
    desk.put(scanner())
    desk.until(online(desk))
    desk.put()
    desk.until(lambda: desk.said("left"))

    bodies = [heard.body for heard in desk.stage.server.said("status")]
    assert [(b.state, b.reason) for b in bodies if isinstance(b, Status)][-1] == ("offline", "unplugged")
    assert desk.host.closed


def test_what_comes_back_elsewhere_enrols_no_second_time(desk: Desk) -> None:
    desk.put(scanner("1-1"))
    desk.until(online(desk))
    desk.put(scanner("1-2", 2))
    desk.until(online(desk, 2))

    assert len(desk.stage.server.said("enrol")) == 1
    assert [(one["port"], one["device"]) for one in desk.said("plugged")] == [
        ("1-1", desk.stage.id),
        ("1-2", desk.stage.id),
    ]


def test_a_flood_is_one_look(desk: Desk) -> None:
    desk.put(scanner())
    desk.until(online(desk))
    looks = desk.bus.looks
    for _ in range(200):
        desk.put(scanner())
    desk.until(lambda: desk.bus.looks > looks)

    assert (desk.bus.looks - looks, desk.said("looked")[-1]["events"]) == (1, 200)
    assert not desk.said("unplugged")


def test_the_second_claim_to_an_identity_is_refused_and_named(desk: Desk) -> None:
    desk.put(scanner("1-1"))
    desk.until(online(desk))
    desk.put(scanner("1-1"), scanner("1-2", 2))
    desk.until(lambda: desk.said("scanner-problem"))

    (problem,) = desk.said("scanner-problem")
    assert (problem["port"], problem["problem"]) == ("1-2", f"{desk.stage.id} is already plugged in, at 1-1")
    assert len(desk.said("plugged")) == 1


def test_who_waited_for_an_identity_has_it_when_it_is_free(desk: Desk) -> None:
    desk.put(scanner("1-1"), scanner("1-2", 2))
    desk.until(online(desk))
    desk.put(scanner("1-2", 2))
    desk.until(online(desk, 2))

    assert [one["port"] for one in desk.said("plugged")] == ["1-1", "1-2"]


def test_a_scanner_nobody_knows_is_one_line(desk: Desk) -> None:
    desk.put(scanner(vendor="abcd"), scanner("1-2"))
    desk.until(online(desk))
    desk.put(scanner(vendor="abcd"))
    desk.until(lambda: desk.said("left"))
    desk.put()
    desk.until(lambda: desk.said("looked")[-1]["gone"] == 1)

    assert [one["ids"] for one in desk.said("scanner-unknown")] == ["abcd:?"]
    assert not desk.said("scanner-problem")


def test_a_problem_is_told_once_and_tried_again(tmp_path: Path, provider: Provider) -> None:
    desk = Desk(tmp_path, provider)
    desk.put(scanner())
    desk.until(lambda: desk.stage.clock.boot_us > 520_000_000)
    desk.provision(provider)
    desk.until(online(desk))

    (problem,) = desk.said("scanner-problem")
    assert str(problem["problem"]).endswith("SN-9: not there: this scanner was not provisioned here")


def test_a_state_that_another_agent_holds_is_left_alone(desk: Desk) -> None:
    with alone(desk.folder / "SN-9" / "state"):
        desk.put(scanner())
        desk.until(lambda: desk.said("scanner-problem"))
    desk.until(online(desk))

    assert "another agent is running on this state" in str(desk.said("scanner-problem")[0]["problem"])


def test_what_left_holds_its_state_no_longer(desk: Desk) -> None:
    state = desk.folder / "SN-9" / "state"
    desk.put(scanner())
    desk.until(online(desk))
    with pytest.raises(Busy), alone(state):
        pass
    desk.put()
    desk.until(lambda: desk.said("left"))

    with alone(state):
        assert (state / "state.json").exists()


@pytest.mark.parametrize("name", ["factory.chain.pem", "ftm.key.pem", "identity.json"])
def test_broken_papers_are_told_and_stop_nobody(desk: Desk, name: str) -> None:
    (desk.folder / "SN-9" / name).write_text("broken")
    desk.put(scanner())
    desk.until(lambda: desk.said("scanner-problem"))

    assert name in str(desk.said("scanner-problem")[0]["problem"])


def test_a_damaged_state_is_told_and_stops_nobody(desk: Desk) -> None:
    state = desk.folder / "SN-9" / "state"
    state.mkdir(mode=0o700)
    for file in ("state.json", "state.json.bak"):
        (state / file).write_bytes(b"torn")
    desk.put(scanner())
    desk.until(lambda: desk.said("scanner-problem"))

    assert "damaged" in str(desk.said("scanner-problem")[0]["problem"])


def test_a_plug_that_names_a_path_reaches_none(desk: Desk) -> None:
    desk.put(scanner(serial="../SN-9"))
    desk.until(lambda: desk.said("scanner-problem"))

    assert "cannot be part of a path" in str(desk.said("scanner-problem")[0]["problem"])
    assert not desk.said("plugged")


@pytest.fixture
def unsure(desk: Desk) -> Desk:
    """A scanner that the table names, while its driver's program fails."""
    file = desk.folder / "agent.toml"
    file.write_text(TABLE + 'program = ["/no/such/driver"]\n')
    desk.plugs = Plugs(load_site(file), desk.host, desk.bus, desk.stage.world())
    desk.put(scanner())
    desk.until(lambda: desk.said("plugged"))
    return desk


def status(desk: Desk) -> DeviceStatus:
    (device,) = desk.host._devices
    return device.parts.scanner.read().status


def test_a_scanner_whose_program_fails_is_attached_and_not_ready(unsure: Desk) -> None:
    unsure.until(online(unsure))

    assert (unsure.said("plugged")[0]["stand"], status(unsure)) == ("unready", DeviceStatus.NOT_READY)
    assert str(unsure.said("scanner-problem")[0]["problem"]).startswith("/no/such/driver: cannot be run")


def test_it_is_ready_when_its_program_answers(unsure: Desk) -> None:
    unsure.plugs._answered(Answer(scanner(), {"serialNo": "SN-9", "firmware": "9.9"}), 0)

    assert (unsure.said("plugged")[-1]["stand"], status(unsure)) == ("attached", DeviceStatus.READY)
    assert len(unsure.said("begun")) == 2  # The desk's own, and this one: it was not attached anew.


@pytest.mark.parametrize("fact", ["serialNo", "model", "deviceProviderId"])
def test_it_is_never_ready_as_another(unsure: Desk, fact: str) -> None:
    unsure.plugs._answered(Answer(scanner(), {fact: "Other"}), 0)

    assert status(unsure) is DeviceStatus.NOT_READY
    assert "Other" in str(unsure.said("scanner-problem")[-1]["problem"])


def test_a_scanner_that_only_its_program_can_name_waits_for_it(desk: Desk) -> None:
    file = desk.folder / "agent.toml"
    file.write_text(TABLE.replace("fields = ", "# ") + 'program = ["/no/such/driver"]\n')
    desk.plugs = Plugs(load_site(file), desk.host, desk.bus, desk.stage.world())
    desk.put(scanner())
    desk.until(lambda: desk.said("scanner-problem"))
    desk.plugs._here[scanner()] = desk.plugs._here[scanner()].on(Move.AGAIN)
    desk.plugs._answered(Answer(scanner(), {"serialNo": "SN-9"}), 0)

    assert [one["stand"] for one in desk.said("plugged")] == ["attached"]
