"""``fleetward demo``: the whole walk on embedded parts, before your eyes, and a verdict at the end.

A provider, a broker, a server and N scanners come up from nothing but what a factory puts in; each registers, reports,
answers a command, changes its keys and takes new firmware; a stolen server is refused, a version that is ill goes back;
the network is cut and mended; a thief tries six things and is refused by six codes; one device retires, another is put
out.
"""

import json
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from fleetward_sandbox.demo_parts import MOST_DEVICES, STEP_S, Stopped
from fleetward_sandbox.demo_upgrades import DemoUpgrades
from fleetward_sandbox.fleet import Door, Fleet, provisioned
from fleetward_sandbox.hostile import Loot, Thief, attacks
from fleetward_sandbox.provision import Order, provision
from fleetward_sandbox.view import View
from fleetward_schemas.commands import Step, Verb
from fleetward_schemas.enrol import State
from fleetward_schemas.retirement import GRACE
from fleetward_schemas.topics import DeviceId
from fleetward_server.mosip.queue import ACTOR
from fleetward_server.operator import LocalOperator
from fleetward_server.state import Presence

MARK = ".fleetward-demo"
WILLS_S = 1.5
"""Between the cut and the broker's death: long enough for the wills, which it would take along."""


class Demo(DemoUpgrades):
    """The walk."""

    def run(self) -> None:
        """Walk through it all; the counts say how it went."""
        self._make()
        self._serve()
        self._devices()
        self._registered()
        self._known_to_mosip()
        self._reported()
        self._commanded()
        self._rotated()
        self._usurped(self._upgraded())
        self._cut_and_mended()
        self._thief()
        self._went_back()
        self._left()
        self._left_mosip()

    def watch(self) -> None:
        """Go on until told to stop."""
        self.view.step("running; Ctrl-C ends it")
        while not self.stopping.is_set():
            self._turn()

    def _devices(self) -> None:
        self.view.step(f"the factory makes {self.counts.devices} scanners, L1 with a trust module and L0")
        made = 0

        def done(_: object) -> None:
            nonlocal made
            made += 1
            self.view.progress(made, self.counts.devices)
            if self.stopping.is_set():
                raise Stopped

        # Partner management 1.1 reads digital IDs to the millisecond only.
        fine = self.counts.mosip == "pms-1.1"
        order = Order(self.counts.devices, self.folder / "devices", milliseconds=fine)
        provision(self.provider, order, done, port=self._mended.port)
        self._fleet = Fleet(provisioned(self.folder / "devices"), Door("localhost", self._mended.port))

    def _registered(self) -> None:
        self.view.step("devices find the time, prove themselves and register; nobody touches them")
        self._until(lambda: self._count(State.REGISTERED) >= self.counts.devices, self._note_registered)

    def _note_registered(self) -> None:
        self.counts.registered = self._count(State.REGISTERED)
        seconds = round(time.monotonic() - self.began, 1)
        if self.counts.registered and self.counts.first_registered_s is None:
            self.counts.first_registered_s = seconds
        if self.counts.registered == self.counts.devices and self.counts.all_registered_s is None:
            self.counts.all_registered_s = seconds

    def _known_to_mosip(self) -> None:
        if self._mosip is None:
            return
        self.view.step("MOSIP is told of each, or (1.2 and later) knows them by certificates alone")

        def note() -> None:
            self.counts.mosip_known = sum(1 for one in self._reads.devices(limit=MOST_DEVICES) if one.device_code)

        self._until(lambda: self.counts.mosip_known >= self.counts.devices, note)

    def _reported(self) -> None:
        self.view.step("each reports; every report is verified and stored once")

        def note() -> None:
            self.counts.reported = sum(1 for one in self._ids() if self._reports(one))

        self._until(lambda: self.counts.reported >= self.counts.devices, note)

    def _commanded(self) -> None:
        self.view.step("each is asked for its device information")
        self._order(Verb.COLLECT_INFO, self._ids())

        def note() -> None:
            self.counts.commands_answered = self._obeyed(Verb.COLLECT_INFO)

        self._until(lambda: self.counts.commands_answered >= self.counts.devices, note)

    def _rotated(self) -> None:
        self.view.step("each is ordered to make new keys; the old ones count until it is online under the new")
        self._order(Verb.ROTATE_KEY, self._ids())

        def note() -> None:
            self.counts.rotated = self._obeyed(Verb.ROTATE_KEY)

        self._until(lambda: self.counts.rotated >= self.counts.devices, note)

    def _order(self, verb: Verb, devices: list[str]) -> None:
        with LocalOperator(self.provider, "demo") as operator:
            for one in devices:
                operator.send_command(DeviceId(one), verb, {}, 600, "demo")

    def _obeyed(self, verb: Verb) -> int:
        found = self._reads.commands(limit=8 * MOST_DEVICES)
        # The connector to MOSIP asks devices too; its orders are not the demo's.
        ours = (one for one in found if one.actor != ACTOR)
        return sum(1 for one in ours if one.verb == verb and one.step is Step.SUCCEEDED)

    def _cut_and_mended(self) -> None:
        self.view.step(f"the network is cut for {self.away_s} s, and the broker killed; reports wait in the outboxes")
        before = {one: self._reports(one) for one in self._ids()}
        self._mended.cut()
        end = time.monotonic() + self.away_s
        self._turn_until(time.monotonic() + WILLS_S)
        self._kill_broker()
        self._turn_until(end)
        self.counts.offline_when_cut = self._present(Presence.OFFLINE)
        self._mended.mend()
        self.view.step("the network is back; the devices catch up")

        def note() -> None:
            self.counts.caught_up = sum(1 for one in self._ids() if self._caught_up(one, before[one]))

        # A device waits longer after each dial that fails: up to twice as long as the network was away.
        self._until(lambda: self.counts.caught_up >= self.counts.devices, note, STEP_S + 3 * self.away_s)

    def _caught_up(self, device_id: str, before: int) -> bool:
        """Online again, and what was observed while the network was cut is there."""
        device = next(d for d in self._reads.devices(limit=MOST_DEVICES) if d.id == device_id)
        return device.presence is Presence.ONLINE and self._reports(device_id) > before

    def _thief(self) -> None:
        self.view.step("a thief with all of one device's secrets tries six things")
        folders = provisioned(self.folder / "devices")
        victim, other = Loot.of(folders[0]), Loot.of(folders[1])
        before = self._refused(victim.id)
        thief = Thief(victim)
        for code, messages in attacks(victim, other, datetime.now(UTC)):
            for message in messages:
                thief.send(message)
            self.counts.hostile_sent += 1
            self.view.say(f"the thief hopes to get past: {code}")

        def note() -> None:
            now = self._refused(victim.id)
            self.counts.hostile_refused = {c: n - before.get(c, 0) for c, n in now.items() if n > before.get(c, 0)}

        self._until(lambda: sum(self.counts.hostile_refused.values()) >= self.counts.hostile_sent, note)
        thief.send(victim.telemetry(datetime.now(UTC)))
        thief.close()

    def _left(self) -> None:
        """Retire one device and revoke another; with few devices nobody leaves."""
        leaving = provisioned(self.folder / "devices")[2:4]
        self.counts.to_leave = len(leaving)
        if not leaving:
            return
        self.view.step("one device retires: its last word is heard, its keys are destroyed; another is put out at once")
        self._order(Verb.RETIRE, [leaving[0].name])
        for one in leaving[1:]:
            with LocalOperator(self.provider, "demo") as operator:
                operator.revoke(DeviceId(one.name), "stolen")

        def note() -> None:
            keys = list((leaving[0] / "state" / "keys").iterdir())
            retired = int(self._obeyed(Verb.RETIRE) == 1 and not keys)
            self.counts.left = retired + self._count(State.REVOKED)

        self._until(lambda: self.counts.left >= self.counts.to_leave, note)

    def _left_mosip(self) -> None:
        """See MOSIP told of those who left: a retirement counts once its device has been silent for a minute."""
        if self._mosip is None:
            return
        mosip, wanted = self._mosip, self.counts.mosip_to_tell()
        self.view.step("MOSIP is told of those who left, of the retired one after a minute of silence")

        def note() -> None:
            self.counts.mosip_told = mosip.told()

        self._until(lambda: self.counts.mosip_told == wanted, note, STEP_S + GRACE.total_seconds())


def prepare(folder: Path) -> None:
    """Empty the demo's own folder; anybody else's is left alone.

    Raises:
        FileExistsError: there is something in it that no demo made.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise FileExistsError(f"{folder}: not empty, and not of an earlier demo; name another with --dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def show(
    folder: Path,
    devices: int,
    *,
    once: bool,
    plain: bool,
    hsm: bool = False,
    mosip: str = "",
    away_s: int = 6,
    picture: Path | None = None,
) -> int:
    """Run the demo; return the exit code. The last line on stdout is one JSON object.

    hsm, mosip: see ``Demo``. away_s: how long the network is cut. picture: an SVG of how it looked when all was done.
    """
    try:
        prepare(folder)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    with View(plain=plain) as view:
        run = Demo(folder, devices, view, hsm=hsm, mosip=mosip)
        run.away_s = away_s
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: run.stopping.set())
        code = _walk(run, view, once=once, picture=picture)
    print(json.dumps(run.counts.plain()))
    return code


def _walk(run: Demo, view: View, *, once: bool, picture: Path | None) -> int:
    try:
        run.run()
        run.counts.judge()
        if picture is not None:
            run.picture(picture)
        if not once:
            run.watch()
    except Stopped:
        return 130
    except RuntimeError as problem:
        view.warn(str(problem))
    finally:
        view.step("ending")
        run.close()
    return 0 if run.counts.ok else 1
