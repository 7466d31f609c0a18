"""The demo's upgrades: firmware for all, an ill version that goes back by itself, a stolen server that is refused."""

import json

from fleetward_agent.device import Device
from fleetward_agent.upgrade_state import Upgrade
from fleetward_sandbox.demo_parts import DemoParts
from fleetward_sandbox.demo_releases import ILL, NEW, OLD, Maker
from fleetward_sandbox.fleet import provisioned
from fleetward_sandbox.installer import NAME
from fleetward_sandbox.usurper import Usurper, never_released, released
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Release, Why
from fleetward_server.config import load
from fleetward_server.releases.shelf import Target
from fleetward_server.running import RUN

NEWEST_COUNTER = 99


class DemoUpgrades(DemoParts):
    """These steps of the walk. The first device gets the ill version, the second is the usurper's."""

    def _upgraded(self) -> Target:
        """Push firmware to all, then the ill version to one; return the oldest, which nobody was told to run."""
        self.view.step("firmware 1.1.0 is signed offline, published, assigned: each verifies, installs and tries it")
        maker = self._releases
        older, newer = maker.release(OLD, NEW)
        (ill,) = maker.release(ILL, words="FAIL-HEALTH")
        maker.assign(newer, self._ids())
        waiting = [self._named(0)]

        def note() -> None:
            there = {
                one.device_id for one in self._upgrades() if one.committed and one.committed.counter == newer.counter
            }
            self.counts.upgraded = len(there)
            if waiting and waiting[0] in there:
                self.view.say("firmware 1.2.0, which will fail its health check, is pushed to one of them")
                maker.assign(ill, [waiting.pop()])

        self._until(lambda: self.counts.upgraded >= self.counts.devices, note)
        return older

    def _usurped(self, older: Target) -> None:
        self.view.step("who stole the server's keys orders what was never released, and then what is older")
        usurper = Usurper(load(self.provider), int(json.loads((self.provider / RUN).read_bytes())["port"]))
        for release in (never_released(NAME, NEWEST_COUNTER), released(older)):
            why = str(self._judged(usurper, release).why)
            self.counts.usurper_refused[why] = self.counts.usurper_refused.get(why, 0) + 1
            self.view.say(f"the device refuses it: {why}")
        usurper.close()

    def _judged(self, usurper: Usurper, release: Release) -> Upgrade:
        """Have the usurper order it; return what the device makes of it."""
        row = self._reads.device(DeviceId(self._named(1)))
        if row is None or self._fleet is None:
            raise RuntimeError("there is no second device")
        device: Device = next(one for one in self._fleet.devices if one.id == row.id)
        version = usurper.assign(row, release)

        def seen() -> Upgrade | None:
            software = device.session.kept.software
            return software.named(NAME) if software.version == version else None

        self._until(lambda: (one := seen()) is not None and one.phase is Phase.REFUSED, lambda: None)
        found = seen()
        if found is None:
            raise RuntimeError("the server was quicker than the usurper")
        return found

    def _went_back(self) -> None:
        self.view.step("the ill version fails its health check; its device goes back to 1.1.0 by itself, and says so")

        def note() -> None:
            found = next((one for one in self._upgrades() if one.device_id == self._named(0)), None)
            back = found is not None and (found.phase, found.why) == (Phase.FAILED, Why.UNHEALTHY)
            self.counts.rolled_back = int(back and self._versions().get(self._named(0)) == NEW[0])

        self._until(lambda: self.counts.rolled_back == 1, note)

    @property
    def _releases(self) -> Maker:
        if self._maker is None:
            raise RuntimeError("there is no release repository yet")
        return self._maker

    def _named(self, number: int) -> str:
        return provisioned(self.folder / "devices")[number].name
