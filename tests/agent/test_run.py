"""The host: many devices over one link, none of which keeps the others waiting."""

import ssl
from dataclasses import replace
from itertools import count

from fleetward_agent.device import Device, Options, Parts
from fleetward_agent.outbox import Outbox
from fleetward_agent.run import BUDGET_US, Host, World
from fleetward_agent.state import StateFile
from fleetward_agent.walk import Stage as At
from fleetward_broker.line import Readable
from fleetward_schemas.jws import Alg
from fleetward_schemas.presence import StatusReason
from tests.world import FakeClock, FakeLink, FakeScanner, FakeServer, MemoryKeys, Provider, Stage


def crowd(provider: Provider, size: int) -> tuple[Host, list[Device], FakeLink, FakeServer]:
    """Put ``size`` devices on one link; the server believes each in turn."""
    clock = FakeClock()
    link = FakeLink(clock)
    devices = [newcomer(provider, f"SN-{number}") for number in range(size)]
    seeds = count(10**9)
    world = World(
        boot_us=lambda: clock.boot_us,
        boot_id="b",
        random=lambda size_bytes: next(seeds).to_bytes(size_bytes, "big"),
        context=lambda roots, shown, check: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    return Host(link, devices, world), devices, link, FakeServer(provider, link, clock)


def newcomer(provider: Provider, serial: str) -> Device:
    origin = provider.origin(serial)
    parts = Parts(MemoryKeys(), FakeScanner(origin.digital_id), StateFile(None), Outbox(None))
    return Device(origin, parts, Options(device_alg=Alg.EDDSA))


def test_many_devices_enrol_over_one_link(provider: Provider) -> None:
    host, devices, _, server = crowd(provider, 20)
    for _ in range(400):
        host.turn(0.05)
        server.serve()

    assert {device.stage for device in devices} == {At.WORKING}
    assert len({device.id for device in devices}) == 20


def test_a_device_may_join_later(stage: Stage) -> None:
    second = newcomer(stage.provider, "SN-2")
    stage.host.add(second)
    stage.until(lambda: stage.server.said("time"))

    assert second.stage in {At.FACTORY_TIME, At.HELLO}


def test_what_a_turn_cannot_do_in_its_time_waits_for_the_next(provider: Provider) -> None:
    host, devices, link, _ = crowd(provider, 5)
    clock = link.clock
    # Every look at the clock costs most of a turn's budget, as making a key would.
    slow = replace(host._world, boot_us=lambda: _slow(clock))
    host._world = slow
    host.turn(0.0)
    dialled = sum(device.line is not None for device in devices)
    for _ in range(30):
        host.turn(0.0)

    assert dialled < len(devices)
    assert all(device.line is not None for device in devices)


def _slow(clock: FakeClock) -> int:
    clock.boot_us += BUDGET_US // 3
    return clock.boot_us


def test_a_word_of_a_line_nobody_owns_is_passed_over(stage: Stage) -> None:
    stage.link._events.append(Readable("usb"))
    stage.turn()

    assert stage.device.stage is At.FACTORY_TIME


def test_an_idle_host_waits_for_what_is_due(working: Stage) -> None:
    before = working.clock.boot_us
    working.turn(100.0)

    assert 0 < working.clock.boot_us - before <= 30_000_000


def test_a_device_that_is_removed_is_held_until_its_line_is_gone(working: Stage) -> None:
    second = newcomer(working.provider, "SN-2")
    working.host.add(second)
    working.until(lambda: second.stage is At.WORKING)
    working.host.remove(second, StatusReason.UNPLUGGED)
    held = working.host.holds(second)
    working.turn()

    assert (held, working.host.holds(second), working.host.holds(working.device)) == (True, False, True)
    assert working.device.stage is At.WORKING


def test_a_device_without_a_line_is_removed_at_once(stage: Stage) -> None:
    stage.host.remove(stage.device, StatusReason.UNPLUGGED)

    assert not stage.host.holds(stage.device)
    assert not stage.server.said("status")


def test_what_is_readable_is_told_to_who_heeds_it(stage: Stage) -> None:
    heard: list[str] = []
    stage.host.heed("usb", lambda: heard.append("usb"))
    stage.link._events.extend([Readable("other"), Readable("usb")])
    stage.turn()

    assert heard == ["usb"]
