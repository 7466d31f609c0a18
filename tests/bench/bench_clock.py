"""Two devices' clocks against the truth, through a real broker and server, beside chronyd following a local chronyd.

Each device's boot clock is this host's with a programmed offset and drift, so its true time is known exactly: it is the
system clock, which the server reads too and of which it is told that it is 1 ms sure. So what is measured is the
protocol, not a field's network: the error of the middle, the width that is reported, and whether the truth is inside.
chronyd (-x, it sets nothing) has no drift of its own here: it follows the very clock it reads.
"""

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleetward_agent.assembly import assemble
from fleetward_agent.config import from_folder
from fleetward_agent.device import Device
from fleetward_agent.run import Host, World
from fleetward_agent.session import want_time
from fleetward_agent.walk import Stage
from fleetward_agent.world import boot_us
from fleetward_broker.link import SelectorLink
from tests.bench.bars import NO_BAR, exactly
from tests.live.chronyhouse import chrony, free_port
from tests.live.house import House

BROKERS = ("embedded", "mosquitto")
SYNCING_S, ALONE_S = 40.0, 20.0
"""Asked once a second, the most the server takes; then left alone."""
LOOK_S, AGAIN_US = 0.1, 1_100_000
DAY_US = 86_400_000_000
CLOCKS = {"120 ppm fast, 3 days ahead": (120, 3 * DAY_US), "180 ppm slow, 9 h ahead": (-180, DAY_US * 3 // 8)}


@dataclass
class Seen:
    """Microseconds. errors, widths: of one clock, looked at again and again; trips: from question to answer."""

    errors: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)
    inside: int = 0

    def look(self, device: Device, boot: int) -> None:
        """Hold one clock against the truth; boot: what its boot clock has shown this moment."""
        truth, clock = time.time_ns() / 1000, device.session.clock
        earliest, latest = clock.earliest_at(boot), clock.latest_at(boot)
        self.errors.append(abs((earliest + latest) / 2 - truth))
        self.widths.append(latest - earliest)
        self.inside += earliest <= truth <= latest

    def lines(self, name: str) -> Iterator[str]:
        """Yield what is to be read."""
        whole = exactly(self.inside, len(self.errors))
        yield f"{name:32} error     {_figures(self.errors)} ({NO_BAR})"
        yield f"{'':32} width     {_figures(self.widths)}; truth inside {self.inside}/{len(self.errors)} ({whole})"
        if self.trips:
            yield f"{'':32} sync      {_figures(self.trips)}; {len(self.trips)} round trips ({NO_BAR})"


def _figures(values: Sequence[float]) -> str:
    ordered = sorted(values)
    at = (ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
    return "  ".join(f"{name} {us / 1000:.3f} ms" for name, us in zip(("median", "p99", "max"), at, strict=True))


class Clocked:
    """A device whose boot clock runs as programmed, in a thread of its own."""

    def __init__(self, folder: Path, drift_ppm: int, offset_us: int) -> None:
        """Make it; nothing is opened yet."""
        self._folder, self._drift_ppm, self._offset_us, self._since = folder, drift_ppm, offset_us, boot_us()
        self.seen = Seen()

    def boot_us(self) -> int:
        """Return what this device's boot clock shows."""
        gone = boot_us() - self._since
        return self._since + self._offset_us + gone + gone * self._drift_ppm // 1_000_000

    def live(self) -> None:
        """Enrol; sync and look; be left alone and look; leave."""
        self.device = assemble(from_folder(self._folder))
        self._link = SelectorLink(time.monotonic)
        self._world = replace(World.real(), boot_us=self.boot_us)
        self._host = Host(self._link, [self.device], self._world)
        self._turn(lambda: self.device.stage is Stage.WORKING and self.device.session.synced_us is not None, 30)
        self._turn(None, SYNCING_S, asking=True)
        self._turn(None, ALONE_S)
        self._host.shut()
        self._turn(lambda: self._host.closed, 5)
        self._link.shutdown()

    def _turn(self, done: Callable[[], bool] | None, seconds: float, *, asking: bool = False) -> None:
        end, look = time.monotonic() + seconds, 0.0
        while time.monotonic() < end and not (done is not None and done()):
            synced = self.device.session.synced_us
            if asking:
                self._ask(synced)
            self._host.turn(LOOK_S / 4)
            after = self.device.session
            if asking and after.synced_us is not None and after.synced_us != synced:
                self.seen.trips.append(after.synced_us - after.asked_us["time"])
            if done is None and time.monotonic() >= look:
                look = time.monotonic() + LOOK_S
                self.seen.look(self.device, self.boot_us())
        if done is not None and not done():
            raise SystemExit(f"{self.device.id} at {self.device.stage}: no figure")

    def _ask(self, synced: int | None) -> None:
        session = self.device.session
        due = synced is not None and self.boot_us() - synced >= AGAIN_US
        if due and session.connected and "time" not in session.asks:
            self.device._session = want_time(session, self._world.instant())


@contextmanager
def chronyd(folder: Path) -> Iterator[tuple[str, ...]]:
    """Run a chronyd that follows another; yield how to ask it."""
    port = free_port()
    with ExitStack() as both:
        both.enter_context(chrony(folder / "s", "local stratum 5", "allow 127.0.0.1", port=port))
        source = f"server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0"
        yield both.enter_context(chrony(folder / "c", source))


def follow(chronyc: tuple[str, ...], seen: Seen, stop: threading.Event) -> None:
    """Hold what chronyd says of the clock against the truth, which is no offset at all."""
    while not stop.wait(LOOK_S * 2):
        row = subprocess.run((*chronyc, "tracking"), capture_output=True, text=True, check=True).stdout.split(",")
        if row[13].strip() == "Normal":
            offset, delay, dispersion = (abs(float(row[at])) * 1e6 for at in (4, 10, 11))
            seen.errors.append(offset)
            seen.widths.append(2 * (offset + delay / 2 + dispersion))
            seen.inside += 1


def main() -> None:
    """Print both clocks on each broker, and chronyd's beside them."""
    for broker in BROKERS:
        with tempfile.TemporaryDirectory() as name, House(Path(name), broker=broker, serve=False) as house:
            path = house.folder / "fleetward.toml"
            path.write_text(path.read_text().replace("radius_ms = 250", "radius_ms = 1"))
            house.serve()
            told, stop, beside = {}, threading.Event(), Seen()
            for (what, clock), made in zip(CLOCKS.items(), house.provision(len(CLOCKS)), strict=True):
                told[what] = Clocked(made.folder, *clock)
            with chronyd(Path(name) / "chrony") as chronyc:
                threads = [threading.Thread(target=one.live) for one in told.values()]
                watch = threading.Thread(target=follow, args=(chronyc, beside, stop))
                for thread in (*threads, watch):
                    thread.start()
                for thread in threads:
                    thread.join()
                stop.set()
                watch.join()
        print(f"{broker}: server sure to 1 ms; {SYNCING_S:.0f} s with a question a second, {ALONE_S:.0f} s alone")
        for what, one in told.items():
            print("\n".join(one.seen.lines(what)))
        print("\n".join(beside.lines("chronyd, polling once a second")))


if __name__ == "__main__":
    main()
