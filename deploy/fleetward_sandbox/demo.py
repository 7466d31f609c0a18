"""``fleetward demo``: the whole walk on embedded parts, before your eyes, and a verdict at the end.

A provider, a broker, a server and N scanners come up from nothing but what a factory puts in; each registers, reports,
answers a command; the network is cut and mended; a thief tries six things and is refused by exactly six codes.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fleetward_sandbox.cable import Cable
from fleetward_sandbox.counts import Counts
from fleetward_sandbox.fleet import Door, Fleet, provisioned
from fleetward_sandbox.hostile import Loot, Thief, attacks
from fleetward_sandbox.provision import Order, provision
from fleetward_sandbox.softhsm import make_token
from fleetward_sandbox.view import View
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.topics import DeviceId
from fleetward_server.ca_keys import keys_of
from fleetward_server.init import Wish, make_provider
from fleetward_server.operator import LocalOperator
from fleetward_server.running import RUN
from fleetward_server.selection import Field, Is, Selection, Term
from fleetward_server.state import Presence
from fleetward_server.store import ReportFilter, Store, open_store

MARK = ".fleetward-demo"
STEP_S = 60.0
START_S = 30.0
CUT_S = 6.0
LOOK_S = 0.5
TELEMETRY_S = 2
MOST_DEVICES = 1000


class Stopped(Exception):  # noqa: N818 - somebody pressed Ctrl-C
    """The demo is to end now."""


class Demo:
    """One run: its folder, its parts, and what was counted."""

    def __init__(self, folder: Path, devices: int, view: View, *, hsm: bool = False) -> None:
        """Prepare; nothing starts yet. hsm: the provider's keys are in a software token."""
        self.hsm = hsm
        self.folder = folder
        self.provider = folder / "provider"
        self.counts = Counts(devices)
        self.view = view
        self.began = time.monotonic()
        self.stopping = threading.Event()
        self._up: subprocess.Popen[bytes] | None = None
        self._cable: Cable | None = None
        self._fleet: Fleet | None = None
        self._store: Store | None = None
        self._looked = 0.0

    def run(self) -> None:
        """Walk through it all; the counts say how it went."""
        self._make()
        self._serve()
        self._devices()
        self._registered()
        self._reported()
        self._commanded()
        self._cut_and_mended()
        self._thief()

    def watch(self) -> None:
        """Go on until told to stop."""
        self.view.step("running; Ctrl-C ends it")
        while not self.stopping.is_set():
            self._turn()

    def picture(self, path: Path) -> None:
        """Draw how it looks now."""
        self.view.picture(path, self._reads.devices(limit=MOST_DEVICES), self.counts)

    def close(self) -> None:
        """End every part, whatever happened."""
        for end in (self._end_fleet, self._end_up, self._end_rest):
            end()
        self.counts.seconds = round(time.monotonic() - self.began, 1)

    def _make(self) -> None:
        self.view.step("making a provider: root, three CAs, broker, server")
        wish = Wish(name="Demo Devices Ltd", provider_id="demo", port=0, telemetry_s=TELEMETRY_S, hsm=self._token())
        self.view.warn(keys_of(wish.hsm, self.provider).warning)
        make_provider(self.provider, wish, datetime.now(UTC))

    def _token(self) -> str:
        if not self.hsm:
            return ""
        self.view.step("making a token in software, which makes and keeps the provider's keys")
        return make_token(self.folder / "hsm").uri

    def _serve(self) -> None:
        self.view.step("starting broker and server")
        command = [sys.executable, "-m", "fleetward_server", "up", "--dir", str(self.provider)]
        with (self.folder / "up.log").open("wb") as log:
            self._up = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_S
        while not (self.provider / RUN).exists():
            if self._up.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"broker and server did not start: see {self.folder / 'up.log'}")
            time.sleep(0.05)
        found = json.loads((self.provider / RUN).read_bytes())
        self._cable = Cable(found["host"], found["port"])
        self._store = open_store(self.provider / "server.db")

    def _devices(self) -> None:
        self.view.step(f"the factory makes {self.counts.devices} scanners, L1 with a trust module and L0")
        made = 0

        def done(_: object) -> None:
            nonlocal made
            made += 1
            self.view.progress(made, self.counts.devices)
            if self.stopping.is_set():
                raise Stopped

        order = Order(self.counts.devices, self.folder / "devices")
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

    def _reported(self) -> None:
        self.view.step("each reports; every report is verified and stored once")

        def note() -> None:
            self.counts.reported = sum(1 for one in self._ids() if self._reports(one))

        self._until(lambda: self.counts.reported >= self.counts.devices, note)

    def _commanded(self) -> None:
        self.view.step("each is asked for its device information")
        operator = LocalOperator(self.provider, "demo")
        for one in self._ids():
            operator.send_command(DeviceId(one), "collect-info", {}, 600, "demo")

        def note() -> None:
            done = self._reads.commands(limit=2 * MOST_DEVICES)
            self.counts.commands_answered = sum(1 for command in done if command.step is Step.SUCCEEDED)

        self._until(lambda: self.counts.commands_answered >= self.counts.devices, note)

    def _cut_and_mended(self) -> None:
        self.view.step(f"the network is cut for {CUT_S:.0f} s; reports wait in the outboxes")
        before = {one: self._reports(one) for one in self._ids()}
        self._mended.cut()
        end = time.monotonic() + CUT_S
        while time.monotonic() < end:
            self._turn()
        self.counts.offline_when_cut = self._present(Presence.OFFLINE)
        self._mended.mend()
        self.view.step("the network is back; the devices catch up")

        def note() -> None:
            self.counts.caught_up = sum(1 for one in self._ids() if self._caught_up(one, before[one]))

        self._until(lambda: self.counts.caught_up >= self.counts.devices, note)

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

    def _until(self, done: Callable[[], bool], note: Callable[[], None]) -> None:
        """Turn until ``done``; ``note`` looks at the store twice a second. Raises Stopped, RuntimeError."""
        deadline, looked = time.monotonic() + STEP_S, 0.0
        while True:
            self._turn()
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                note()
                if done():
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"this step took more than {STEP_S:.0f} s; see the logs in {self.provider}")

    def _turn(self) -> None:
        if self.stopping.is_set() and not self.counts.ok:
            raise Stopped
        if self._fleet is not None:
            self._fleet.turn(0.05)
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            self.view.devices(self._reads.devices(limit=MOST_DEVICES), self.counts)

    @property
    def _reads(self) -> Store:
        if self._store is None:
            raise RuntimeError("the store is not open yet")
        return self._store

    @property
    def _mended(self) -> Cable:
        if self._cable is None:
            raise RuntimeError("the cable is not laid yet")
        return self._cable

    def _ids(self) -> list[str]:
        return [device.id for device in self._reads.devices(limit=MOST_DEVICES)]

    def _count(self, state: State) -> int:
        return len(self._reads.devices(_in_state(state), limit=MOST_DEVICES))

    def _present(self, presence: Presence) -> int:
        return len(self._reads.devices(_in_state(presence), limit=MOST_DEVICES))

    def _reports(self, device_id: str) -> int:
        return len(self._reads.reports(ReportFilter(DeviceId(device_id), "telemetry")))

    def _refused(self, principal: str) -> dict[str, int]:
        return {str(row.code): row.count for row in self._reads.refusals(principal)}

    def _end_fleet(self) -> None:
        if self._fleet is not None:
            self._fleet.close()

    def _end_up(self) -> None:
        if self._up is not None:
            self._up.terminate()
            self._up.wait()

    def _end_rest(self) -> None:
        if self._cable is not None:
            self._cable.close()
        if self._store is not None:
            self._store.close()


def _in_state(word: State | Presence) -> Selection:
    return Selection(terms=(Term(Field.STATE, (Is(word),)),))


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


def show(folder: Path, devices: int, *, once: bool, plain: bool, hsm: bool = False, picture: Path | None = None) -> int:
    """Run the demo; return the exit code. The last line on stdout is one JSON object.

    hsm: see ``Demo``. picture: an SVG of how it looked when all was done.
    """
    try:
        prepare(folder)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    with View(plain=plain) as view:
        run = Demo(folder, devices, view, hsm=hsm)
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
