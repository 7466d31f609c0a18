"""Plug and play: each scanner that is plugged in becomes a device of this host, and leaves it when it is pulled out.

A scanner is told by its identity alone: on another port it is the same device with the same state and no new enrolment;
another scanner on the same port is another device. Two that claim one identity: the second waits, and is told of.
Source: C4; C3.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

from fleetward_agent.assembly import assemble
from fleetward_agent.config import Config, ConfigProblem, Site, for_scanner
from fleetward_agent.device import Device
from fleetward_agent.drivers import Driver, Facts, Unnamed, driver_for
from fleetward_agent.host import PluggedScanner
from fleetward_agent.instant import SECOND_US
from fleetward_agent.lock import Busy, alone
from fleetward_agent.plug import Move, Patience, Plugged, Settle, Stand, advance, look
from fleetward_agent.programs import Answer, Programs
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateProblem
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.identity import device_id
from fleetward_schemas.presence import StatusReason

UDEV, DRIVERS = "udev", "drivers"
"""Tags of what the link watches for us."""
_PROBLEMS = (Unnamed, ConfigProblem, KeyUnavailable, StateProblem, Busy, OSError, sqlite3.Error)
_TRIED_AGAIN = {Stand.WAITING, Stand.UNREADY}
_NOT_NOW_US = 2**62


class Bus(Protocol):
    """Where scanners are plugged in. ``probe.UdevBus`` is the real one."""

    def drain(self) -> int:
        """Take the events that wait, and return how many."""
        ...

    def scan(self) -> frozenset[Plugged]:
        """Return what is there now."""
        ...


@dataclass(frozen=True, slots=True)
class Attached:
    """A plug's device. held: its state folder's lock and its outbox, let go together."""

    device: Device
    scanner: PluggedScanner
    held: ExitStack


@dataclass(frozen=True, slots=True)
class Plug:
    """What is known of one plug."""

    plugged: Plugged
    stand: Stand = Stand.SEEN
    driver: Driver = field(default_factory=Driver)
    patience: Patience = field(default_factory=Patience)
    attached: Attached | None = None

    def on(self, move: Move) -> "Plug":
        """Return the plug after ``move``."""
        return replace(self, stand=advance(self.stand, move))


class Plugs:
    """See the module. ``turn`` in place of the host's own."""

    def __init__(self, site: Site, host: Host, bus: Bus, world: World) -> None:
        """Nothing is looked at before the first turn; ``programs`` is to be watched by the link."""
        self._site = site
        self._host = host
        self._bus = bus
        self._world = world
        self.programs = Programs()
        self._here: dict[Plugged, Plug] = {}
        self._leaving: list[Plug] = []
        self._settle = Settle()
        self._events = 0
        host.heed(UDEV, self._stir)

    def turn(self, timeout_s: float) -> None:
        """Have the host turn, at most until something is due here, and do that."""
        now_us = self._world.boot_us()
        wait_s = max(0, min(self._dues(now_us)) - now_us) / SECOND_US
        self._host.turn(min(timeout_s, wait_s))
        self.step()

    def step(self) -> None:
        """Do what is due: hear drivers, look, try again, let go."""
        now_us = self._world.boot_us()
        for answer in self.programs.step(now_us):
            self._answered(answer, now_us)
        if now_us >= self._settle.due_us:
            self._look(now_us)
        for plug in [one for one in self._here.values() if one.stand in _TRIED_AGAIN]:
            if now_us >= plug.patience.due_us:
                self._try_again(plug, now_us)
        self._let_go()

    def shutdown(self) -> None:
        """End drivers' programs; the host says goodbye for the devices."""
        self.programs.shutdown()

    def _dues(self, now_us: int) -> Iterator[int]:
        yield self._settle.due_us
        yield from (plug.patience.due_us for plug in self._here.values() if plug.stand in _TRIED_AGAIN)
        due_us = self.programs.due_us(now_us)
        if due_us is not None:
            yield due_us

    def _stir(self) -> None:
        self._events += self._bus.drain()
        self._settle = self._settle.stirred(self._world.boot_us())

    def _look(self, now_us: int) -> None:
        now = self._bus.scan()
        arrived, gone = look(frozenset(self._here), now)
        self._world.log(
            "looked", {"events": self._events, "plugged": len(now), "arrived": len(arrived), "gone": len(gone)}
        )
        self._events = 0
        self._settle = self._settle.looked(now_us)
        for plugged in sorted(gone, key=_order):
            self._pull(self._here.pop(plugged))
        for plugged in sorted(arrived, key=_order):
            self._meet(Plug(plugged), now_us)

    def _meet(self, plug: Plug, now_us: int) -> None:
        driver = driver_for(self._site.drivers, plug.plugged)
        if driver is None:
            self._here[plug.plugged] = plug.on(Move.STRANGE)
            self._log("scanner-unknown", plug)
        else:
            self._ask(replace(plug.on(Move.MATCHED), driver=driver), now_us)

    def _ask(self, plug: Plug, now_us: int) -> None:
        self._here[plug.plugged] = plug
        if plug.driver.program:
            self.programs.ask(plug.plugged, plug.driver)
        else:
            self._answered(Answer(plug.plugged), now_us)

    def _try_again(self, plug: Plug, now_us: int) -> None:
        # Not again before this try has its answer.
        plug = replace(plug, patience=replace(plug.patience, due_us=_NOT_NOW_US))
        self._ask(plug.on(Move.AGAIN) if plug.stand is Stand.WAITING else plug, now_us)

    def _answered(self, answer: Answer, now_us: int) -> None:
        plug = self._here[answer.plugged]
        try:
            after = self._confirm(plug, answer) if plug.stand is Stand.UNREADY else self._attach(plug, answer)
        except _PROBLEMS as problem:
            # Of a program that fails and papers that cannot be found without it, the first is the cause.
            text = answer.problem or str(problem)
            after = plug if plug.stand is Stand.UNREADY else plug.on(Move.PUZZLED)
            self._here[plug.plugged] = self._impatient(after, text, now_us)
            return
        self._log("plugged", after)
        self._here[plug.plugged] = self._impatient(after, answer.problem, now_us) if answer.problem else after

    def _impatient(self, plug: Plug, problem: str, now_us: int) -> Plug:
        """Wait before the next try; the same problem is told once."""
        if problem != plug.patience.said:
            self._log("scanner-problem", plug, problem=problem)
        return replace(plug, patience=plug.patience.after(problem, now_us))

    def _attach(self, plug: Plug, answer: Answer) -> Plug:
        """Make a device of a plug and begin it; not ready when its driver's program failed."""
        facts, config = self._config(plug, answer.facts)
        self._require_unclaimed(device_id(config.identity.digital_id))
        scanner = PluggedScanner(config.identity.digital_id, facts.get("firmware"), ready=not answer.problem)
        with ExitStack() as held:
            held.enter_context(alone(config.state_dir))
            device = assemble(config, scanner=scanner)
            held.callback(device.parts.outbox.close)
            self._host.add(device)
            attached = Attached(device, scanner, held.pop_all())
        return replace(plug.on(Move.UNSURE if answer.problem else Move.NAMED), attached=attached)

    def _confirm(self, plug: Plug, answer: Answer) -> Plug:
        """Have a scanner ready whose program answers at last, if it is the one that was attached."""
        facts, config = self._config(plug, answer.facts)
        if answer.problem or plug.attached is None:
            raise Unnamed(answer.problem)
        if device_id(config.identity.digital_id) != plug.attached.device.id:
            raise Unnamed(f"is attached as {plug.attached.device.id}: its program names another")
        plug.attached.scanner.confirm(facts.get("firmware"))
        return replace(plug.on(Move.NAMED), patience=Patience())

    def _config(self, plug: Plug, told: Facts) -> tuple[Facts, Config]:
        facts = plug.driver.facts_of(plug.plugged, told)
        return facts, for_scanner(self._site, plug.driver, facts)

    def _require_unclaimed(self, identity: str) -> None:
        for plug in (*self._here.values(), *self._leaving):
            if plug.attached is not None and plug.attached.device.id == identity:
                leaving = " and still leaving" if plug.stand is Stand.LEAVING else ""
                raise Unnamed(f"{identity} is already plugged in{leaving}, at {plug.plugged.port}")

    def _pull(self, plug: Plug) -> None:
        self.programs.drop(plug.plugged)
        plug = plug.on(Move.PULLED)
        if plug.attached is not None:
            self._log("unplugged", plug)
            self._host.remove(plug.attached.device, StatusReason.UNPLUGGED)
            self._leaving.append(plug)

    def _let_go(self) -> None:
        """Free what belongs to devices whose line is gone; who waited for an identity may have it now."""
        for plug in list(self._leaving):
            if plug.attached is not None and not self._host.holds(plug.attached.device):
                plug.attached.held.close()
                self._leaving.remove(plug)
                self._log("left", plug.on(Move.LEFT))
                self._here.update(
                    {one.plugged: _at_once(one) for one in self._here.values() if one.stand is Stand.WAITING}
                )

    def _log(self, event: str, plug: Plug, **more: str) -> None:
        fields = {
            "port": plug.plugged.port,
            "ids": plug.plugged.ids,
            "serial": plug.plugged.get("ID_SERIAL_SHORT") or "?",
        }
        fields |= {"driver": plug.driver.name} if plug.driver.name else {}
        if plug.attached is not None:
            fields |= {"device": plug.attached.device.id, "stand": plug.stand}
        self._world.log(event, fields | more)


def _order(plugged: Plugged) -> tuple[str, tuple[tuple[str, str], ...]]:
    return plugged.port, plugged.properties


def _at_once(plug: Plug) -> Plug:
    return replace(plug, patience=replace(plug.patience, due_us=0))
