"""What the demo stands on: a provider's folder, broker and server as processes, a cable that can be cut, the fleet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleetward_broker.halt import SignalEvent
from fleetward_sandbox.cable import Cable
from fleetward_sandbox.counts import Counts
from fleetward_sandbox.demo_releases import Maker
from fleetward_sandbox.fleet import Fleet
from fleetward_sandbox.softhsm import make_token
from fleetward_sandbox.view import View
from fleetward_schemas.enrol import State
from fleetward_schemas.topics import DeviceId
from fleetward_server.ca_keys import keys_of
from fleetward_server.init import Wish, make_provider
from fleetward_server.running import RUN
from fleetward_server.selection import Field, Is, Selection, Term
from fleetward_server.state import Presence
from fleetward_server.store import ReportFilter, Store, open_store
from fleetward_server.upgrade_state import Upgrade

if TYPE_CHECKING:
    from fleetward_sandbox.demo_mosip import DemoMosip

STEP_S = 180.0
START_S = 90.0
LOOK_S = 0.5
TELEMETRY_S = 2
MOST_DEVICES = 1000


class Stopped(Exception):  # noqa: N818 - somebody pressed Ctrl-C
    """The demo is to end now."""


class DemoParts:
    """One run: its folder, its parts, and what was counted."""

    def __init__(self, folder: Path, devices: int, view: View, *, hsm: bool = False, mosip: str = "") -> None:
        """Prepare; nothing starts yet. hsm: the provider's keys are in a software token. mosip: profile of one."""
        self.hsm = hsm
        self.folder = folder
        self.provider = folder / "provider"
        self.counts = Counts(devices, mosip=mosip)
        self.view = view
        self.away_s = 6
        self.began = time.monotonic()
        self.stopping = SignalEvent()
        self._up: subprocess.Popen[bytes] | None = None
        self._cable: Cable | None = None
        self._fleet: Fleet | None = None
        self._store: Store | None = None
        self._mosip: DemoMosip | None = None
        self._maker: Maker | None = None
        self._looked = 0.0

    def picture(self, path: Path) -> None:
        """Draw how it looks now."""
        self.view.picture(path, self._reads.devices(limit=MOST_DEVICES), self.counts, self._versions())

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
        if self.counts.mosip:
            from fleetward_sandbox.demo_mosip import DemoMosip

            self.view.step(f"starting a MOSIP ({self.counts.mosip}), which signs the provider's certificate")
            self._mosip = DemoMosip(self.provider, self.counts.mosip, datetime.now(UTC))

        self.view.step("making a release repository: its keys for root and releases lie where no server reads")
        self._maker = Maker(self.provider, self.folder / "maker")

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

    def _turn_until(self, end: float) -> None:
        while time.monotonic() < end:
            self._turn()

    def _until(self, done: Callable[[], bool], note: Callable[[], None], within_s: float = STEP_S) -> None:
        """Turn until ``done``; ``note`` looks at the store twice a second. Raises Stopped, RuntimeError."""
        deadline, looked = time.monotonic() + within_s, 0.0
        while True:
            self._turn()
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                note()
                if done():
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"this step took more than {within_s:.0f} s; see the logs in {self.provider}")

    def _turn(self) -> None:
        if self.stopping.is_set() and not self.counts.ok:
            raise Stopped
        if self._fleet is not None:
            self._fleet.turn(0.05)
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            self.view.devices(self._reads.devices(limit=MOST_DEVICES), self.counts, self._versions())

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

    def _upgrades(self) -> tuple[Upgrade, ...]:
        return self._reads.upgrades_of([DeviceId(one) for one in self._ids()])

    def _versions(self) -> dict[str, str]:
        return {one.device_id: one.committed.version for one in self._upgrades() if one.committed is not None}

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

    def _kill_broker(self) -> None:
        """End the broker as a power cut does; what keeps watch starts it again."""
        os.kill(int(json.loads((self.provider / RUN).read_bytes())["broker"]), signal.SIGKILL)

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
        if self._mosip is not None:
            self._mosip.close()


def _in_state(word: State | Presence) -> Selection:
    return Selection(terms=(Term(Field.STATE, (Is(word),)),))
