"""A provider with a release repository, and devices whose firmware is one file: what upgrade tests start from.

A device's firmware is text; its own check asks whether it says ``healthy``. The offline keys lie beside the provider.
"""

import subprocess
from pathlib import Path
from typing import Self

from fleetward_sandbox.provision import Made
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Why
from fleetward_server.assigning import UpgradeWish
from fleetward_server.releases.init import Wish
from fleetward_server.releases.shelf import Target, open_shelf
from fleetward_server.state import Device
from fleetward_server.store import AuditFilter
from fleetward_server.upgrade_state import Upgrade
from fleetward_server.upgrading import UpgradeOperator
from tests.live.house import House
from tests.server.releaser import SECRET, Maker

SOFTWARE = """
[[software]]
name = "firmware"
installer = "file"
path = "firmware.txt"
check = ["/bin/grep", "-q", "healthy", "firmware.txt"]
"""
LINES = 20_000


def image(counter: int, how: str = "healthy") -> bytes:
    """Return firmware that says of each line which version it is of."""
    return f"{how} firmware of counter {counter}\n".encode() * LINES


class Works:
    """A house whose provider releases."""

    def __init__(self, folder: Path, broker: str = "embedded", *, telemetry_s: int = 1) -> None:
        self.house = House(folder / "house", serve=False, broker=broker, telemetry_s=telemetry_s)
        self.maker = Maker(folder / "maker", self.house.folder)
        self.maker.operator.make_repository(Wish(self.maker.keys_folder, SECRET))

    def __enter__(self) -> Self:
        self.house.serve()
        return self

    def __exit__(self, *_: object) -> None:
        self.house.__exit__()

    def devices(self, count: int) -> list[Made]:
        """Make devices with firmware of counter 1, as the factory put it in, and start them."""
        made = self.house.provision(count)
        for one in made:
            (one.folder / "software.toml").write_text(SOFTWARE)
            (one.folder / "firmware.txt").write_bytes(image(1))
            self.house.start_agent(one.folder)
        self.house.wait(lambda: all(self.house.reports(one.id) for one in made), "all report")
        return made

    def release(self, counter: int, content: bytes | None = None) -> Target:
        """Release firmware for all models."""
        path = self.maker.release(counter, content=image(counter) if content is None else content, models=())
        return open_shelf(self.maker.config).targets[path]

    def assign(self, target: Target, *made: Made) -> None:
        """Have the director assign one target."""
        with UpgradeOperator(self.house.folder, "test") as operator:
            for one in made:
                assert operator.assign(DeviceId(one.id), UpgradeWish((target.path,)), "test")

    def upgraded(self, counter: int, *made: Made, within_s: float = 180) -> None:
        """Wait until devices have committed a counter, and see that this is what they run, whole."""
        self.house.wait(
            lambda: all(self.counter(one) == counter for one in made), f"{counter} is committed", within_s=within_s
        )
        for one in made:
            assert self.runs(one) == image(counter)

    def ends(self, made: Made, phase: Phase, why: Why | None) -> None:
        """Wait until a device has said that its firmware's upgrade ended so."""

        def is_so() -> bool:
            found = self.upgrade(made)
            return found is not None and (found.phase, found.why) == (phase, why)

        self.house.wait(is_so, f"{phase} {why}")

    def upgrade(self, made: Made) -> Upgrade | None:
        """Return how far a device's firmware got, as the server knows."""
        return next(iter(self.house.store.upgrades_of((DeviceId(made.id),))), None)

    def counter(self, made: Made) -> int:
        """Return what a device has committed, by its own word."""
        found = self.upgrade(made)
        return 0 if found is None or found.committed is None else found.committed.counter

    def runs(self, made: Made) -> bytes:
        """Return what is in a device's scanner."""
        return (made.folder / "firmware.txt").read_bytes()

    def committed(self, made: Made) -> int:
        """Return how often the audit says that a device committed something."""
        links = self.house.store.audit_links(0, 10_000, AuditFilter(subject=made.id))
        return sum(link.entry.action == "upgrade-committed" for link in links)

    def row(self, made: Made) -> Device:
        """Return a device's row."""
        found = self.house.device(made.id)
        assert found is not None
        return found

    def restart(self, agent: "subprocess.Popen[bytes]", made: Made) -> "subprocess.Popen[bytes]":
        """kill -9 an agent, and start another."""
        agent.kill()
        agent.wait()
        return self.house.start_agent(made.folder)
