"""Plug and play (C4) with the real agent, broker and server on a USB bus made of files: only plugs are touched."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from fleetward_sandbox.provision import Made
from fleetward_schemas.enrol import State
from fleetward_server.state import Presence
from tests.live.house import House
from tests.live.usb import TestBus, Usb

pytestmark = [pytest.mark.live, pytest.mark.part]
PLUG_S = 60
NUMBERS, PORTS = count(10), count(1)
TABLE = """
[keys]
device_alg = "EdDSA"

[[driver]]
name = "table"
vendor = "1d6b"
product = "0b10"
folder = "scanners/{serialNo}"
fields = { serialNo = "{ID_SERIAL_SHORT}" }

[[driver]]
name = "asking"
vendor = "1d6b"
product = "0b20"
folder = "scanners/{serialNo}"
fields = { serialNo = "{ID_SERIAL_SHORT}" }
program = ["/bin/sh", "HOME/driver.sh"]
"""
DRIVER = """test -e HOME/awake || exit 3
printf '{"serialNo":"%s","firmware":"9.9"}' "$ID_SERIAL_SHORT"
"""


class Desk:
    """A host with a USB bus, its agent, and the provider the agent serves."""

    def __init__(self, house: House, bus: TestBus) -> None:
        self.house, self.bus = house, bus
        self.home = house.home / "host"
        (self.home / "scanners").mkdir(parents=True)
        (self.home / "agent.toml").write_text(TABLE.replace("HOME", str(self.home)))
        (self.home / "driver.sh").write_text(DRIVER.replace("HOME", str(self.home)))
        self.agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ("run", "--config", str(self.home / "agent.toml"), "--log-format", "json", "--log-level", "debug")
        command = ["umockdev-wrapper", sys.executable, "-m", "fleetward_agent", *words]
        with (self.home / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(command, stderr=log, env=self.bus.environment)
        self.house.agents.append(self.agent)

    def stop(self) -> int:
        assert self.agent is not None
        self.agent.terminate()
        return self.agent.wait(60)

    def box(self) -> Made:
        """Provision one scanner; its papers lie where the driver table looks."""
        (made,) = self.house.provision(1)
        shutil.move(made.folder, self.home / "scanners" / made.identity.serialNo)
        return made

    def usb(self, made: Made, port: str = "", **other: Any) -> Usb:
        """Return the plug of a scanner: each time it is another number of the bus."""
        return Usb(made.identity.serialNo, port or f"1-{next(PORTS)}", next(NUMBERS), **other)

    def log(self, event: str, **fields: str) -> list[dict[str, Any]]:
        # The last one may be only half written yet.
        lines = (self.home / "agent.log").read_bytes().rpartition(b"\n")[0].splitlines()
        heard = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [one for one in heard if one["event"] == event and fields.items() <= one.items()]

    def is_now(self, made: Made, presence: Presence) -> bool:
        row = self.house.device(made.id)
        return row is not None and row.state is State.REGISTERED and row.presence is presence

    def wait(self, made: Made, presence: Presence) -> float:
        """Wait until the server sees it so; return how long it took."""
        began = time.monotonic()
        try:
            self.house.wait(lambda: self.is_now(made, presence), f"{made.id} is {presence}", PLUG_S)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{(self.home / 'agent.log').read_text()[-3000:]}") from None
        return time.monotonic() - began

    def registered(self, *, port: str = "", **other: Any) -> tuple[Made, Usb]:
        """Plug a new scanner in and wait until it is registered and online."""
        made = self.box()
        usb = self.usb(made, port, **other)
        self.bus.plug(usb)
        self.wait(made, Presence.ONLINE)
        return made, usb

    def enrolments(self, made: Made) -> int:
        row = self.house.device(made.id)
        return 0 if row is None else row.enrolments


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with TestBus() as bus, House(tmp_path_factory.mktemp("house")) as house:
        made = Desk(house, bus)
        made.start()
        yield made


def test_a_scanner_plugged_in_registers_by_itself(desk: Desk) -> None:
    made = desk.box()
    desk.house.wait(lambda: desk.log("looked"), "the agent runs")

    desk.bus.plug(desk.usb(made))

    print(f"\nplug to registered and online: {desk.wait(made, Presence.ONLINE):.2f} s")
    assert desk.enrolments(made) == 1


def test_a_scanner_that_is_there_when_the_agent_starts_is_found(desk: Desk) -> None:
    made, _ = desk.registered()
    assert desk.stop() == 0
    desk.wait(made, Presence.OFFLINE)

    desk.start()

    desk.wait(made, Presence.ONLINE)


def test_a_scanner_pulled_out_says_so_and_comes_back_as_itself(desk: Desk) -> None:
    made, usb = desk.registered()
    desk.bus.pull(usb)
    desk.wait(made, Presence.OFFLINE)
    assert desk.log("offline", device=made.id, reason="unplugged")

    desk.bus.plug(desk.usb(made, usb.port))

    print(f"\nplugged in again to online: {desk.wait(made, Presence.ONLINE):.2f} s")
    assert desk.enrolments(made) == 1


def test_another_scanner_on_the_same_port_is_another_device(desk: Desk) -> None:
    made, usb = desk.registered()
    other = desk.box()

    desk.bus.pull(usb)
    desk.bus.plug(desk.usb(other, usb.port))

    desk.wait(other, Presence.ONLINE)
    desk.wait(made, Presence.OFFLINE)
    assert (other.id != made.id, desk.enrolments(other), desk.enrolments(made)) == (True, 1, 1)


def test_the_same_scanner_on_another_port_is_the_same_device(desk: Desk) -> None:
    made, usb = desk.registered()
    sessions = len(desk.log("online", device=made.id))

    desk.bus.pull(usb)
    desk.bus.plug(desk.usb(made))

    desk.house.wait(lambda: len(desk.log("online", device=made.id)) > sessions, "it is online anew", PLUG_S)
    desk.wait(made, Presence.ONLINE)
    assert desk.enrolments(made) == 1


def test_two_scanners_plugged_in_at_once_both_register(desk: Desk) -> None:
    both = [desk.box(), desk.box()]

    desk.bus.plug(*(desk.usb(made) for made in both))

    for made in both:
        desk.wait(made, Presence.ONLINE)
    assert [desk.enrolments(made) for made in both] == [1, 1]


def test_two_hundred_events_are_a_look_or_two_and_cut_no_line(desk: Desk) -> None:
    made, usb = desk.registered()
    desk.house.wait(lambda: sum(one["events"] for one in desk.log("looked")) >= 1, "quiet")
    looks, lines = len(desk.log("looked")), len(desk.log("lost", device=made.id))
    heard = sum(one["events"] for one in desk.log("looked"))
    began = time.monotonic()

    desk.bus.stir(usb, 200)
    told_s = time.monotonic() - began
    desk.house.wait(lambda: sum(one["events"] for one in desk.log("looked")) - heard >= 200, "all were heard")

    looked = len(desk.log("looked")) - looks
    print(f"\n200 events in {told_s:.2f} s: {looked} look(s)")
    assert looked <= 2 + told_s
    assert (desk.is_now(made, Presence.ONLINE), len(desk.log("lost", device=made.id))) == (True, lines)


def test_a_second_claim_to_an_identity_waits_until_the_first_is_gone(desk: Desk) -> None:
    made, usb = desk.registered()
    twin = desk.usb(made)

    desk.bus.plug(twin)
    said = {"port": f"/sys{twin.path}", "problem": f"{made.id} is already plugged in, at /sys{usb.path}"}
    desk.house.wait(lambda: desk.log("scanner-problem", **said), "the claim is told", PLUG_S)
    desk.bus.pull(usb)

    desk.house.wait(lambda: desk.log("plugged", port=f"/sys{twin.path}"), "the twin has its turn", PLUG_S)
    desk.wait(made, Presence.ONLINE)
    assert desk.enrolments(made) == 1


def test_a_stranger_on_the_bus_is_one_line_and_nothing_else(desk: Desk) -> None:
    devices = len(desk.house.all_devices())
    stranger = Usb("KEYBOARD", f"1-{next(PORTS)}", next(NUMBERS), vendor="abcd", product="0001")

    desk.bus.plug(stranger)
    desk.house.wait(lambda: desk.log("scanner-unknown", ids="abcd:0001"), "the stranger is named", PLUG_S)
    desk.bus.stir(stranger, 3)
    desk.registered()

    assert len(desk.log("scanner-unknown", ids="abcd:0001")) == 1
    assert len(desk.house.all_devices()) == devices + 1


def test_a_scanner_whose_papers_come_later_needs_no_hand(desk: Desk) -> None:
    made = desk.box()
    folder = desk.home / "scanners" / made.identity.serialNo
    hidden = folder.rename(desk.home / made.identity.serialNo)

    desk.bus.plug(desk.usb(made))
    problem = f"{folder}: not there: this scanner was not provisioned here"
    desk.house.wait(lambda: desk.log("scanner-problem", problem=problem), "the folder is named", PLUG_S)
    hidden.rename(folder)

    desk.wait(made, Presence.ONLINE)
    assert len(desk.log("scanner-problem", problem=problem)) == 1


def test_a_scanner_whose_program_fails_is_not_ready_until_it_answers(desk: Desk) -> None:
    made, _ = desk.registered(product="0b20")
    problem = "/bin/sh: ended with 3"
    assert desk.log("scanner-problem", device=made.id, problem=problem)
    desk.house.wait(lambda: readiness(desk, made) == [0], "it reports that it is not ready", PLUG_S)

    (desk.home / "awake").touch()

    desk.house.wait(lambda: readiness(desk, made) == [0, 1], "it reports that it is ready", PLUG_S)
    assert len(desk.log("scanner-problem", device=made.id, problem=problem)) == 1


def readiness(desk: Desk, made: Made) -> list[float]:
    """Return what the scanner reported of being ready, repetitions left out."""
    bodies = [json.loads(report.body) for report in desk.house.reports(made.id)]
    said = [reading["metrics"]["scannerReady"] for body in bodies for reading in body["readings"]]
    return [now for before, now in zip([None, *said], said, strict=False) if now != before]
