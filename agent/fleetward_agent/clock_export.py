"""Trusted time handed on to the host: a file, samples for chronyd's SOCK reference clock, the system clock itself.

Only these commands read the system clock, to say how far it is off; the agent never does. They need no running agent:
the state's anchor and CLOCK_BOOTTIME say what the time is. Nothing is handed on that no answer has bounded.
Source: S3; chrony.conf(5) "refclock SOCK" and chrony's refclock_sock.c (struct sock_sample).
"""

import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fleetward_agent import BUILT
from fleetward_agent.config import Config
from fleetward_agent.state import FILE as STATE_FILE
from fleetward_agent.state import Kept, RefusedTime, StateFile
from fleetward_agent.status import NotStarted, TimeUnknown
from fleetward_agent.world import BOOT_ID, Log, boot_us, slept_us
from fleetward_broker.durable import write_durably
from fleetward_schemas.clock import Clock, restore
from fleetward_schemas.moment import EPOCH, from_ms, show

SOCK_MAGIC = 0x534F434B
SOCK_SAMPLE = struct.Struct("@lldiiii")
"""struct timeval tv; double offset; int pulse; int leap; int pad; int magic."""
MILLION = 1_000_000
READABLE = 0o644


@dataclass(frozen=True, slots=True)
class Reading:
    """The clock at one moment, as the state tells it. system_us: what the system clock showed then."""

    clock: Clock
    boot_id: str
    boot_us: int
    system_us: int
    synced_ms: int = 0
    refused_times: tuple[RefusedTime, ...] = ()

    @property
    def synced(self) -> bool:
        """Whether there is a time, and not a floor alone."""
        return self.clock.synced(self.boot_us)

    @property
    def middle_us(self) -> int:
        """The middle of the interval, microseconds since 1970."""
        return (self.clock.earliest_at(self.boot_us) + self.clock.latest_at(self.boot_us)) // 2

    @property
    def off_us(self) -> int:
        """How far the system clock must be moved to show the middle."""
        return self.middle_us - self.system_us


def read(config: Config) -> Reading:
    """Read one device's clock now.

    Raises:
        NotStarted: there is no state. StateProblem, OSError: it cannot be read.
    """
    if not (config.state_dir / STATE_FILE).exists():
        raise NotStarted(f"{config.state_dir}: no state yet; run: fleetward-agent run")
    return reading_of(StateFile(config.state_dir).load(), config.clock.drift_ppm)


def reading_of(kept: Kept, drift_ppm: int) -> Reading:
    """Return what a state says now."""
    boot_id, boot = BOOT_ID.read_text().strip(), boot_us()
    clock = restore(kept.clock, BUILT, boot_id, boot, drift_ppm=drift_ppm, slept_us=slept_us())
    return Reading(clock, boot_id, boot, time.time_ns() // 1000, kept.synced_ms, kept.refused_times)


def document(reading: Reading) -> dict[str, object]:
    """Return the exported file's content; while unsynced ``earliest`` alone is known.

    Whoever reads it later adds what CLOCK_BOOTTIME has gained since ``bootUs``, and as much drift.
    """
    known = {
        "bootId": reading.boot_id,
        "bootUs": reading.boot_us,
        "synced": reading.synced,
        "earliest": _shown(reading.clock.earliest_at(reading.boot_us)),
        "driftPpm": reading.clock.bound_ppm,
        "syncedAt": show(from_ms(reading.synced_ms)) if reading.synced_ms else None,
    }
    if not reading.synced:
        return known
    return known | {
        "middle": _shown(reading.middle_us),
        "latest": _shown(reading.clock.latest_at(reading.boot_us)),
        "uncertaintyMs": uncertainty_ms(reading),
        "systemClockOffMs": -reading.off_us / 1000,
    }


def uncertainty_ms(reading: Reading) -> int:
    """Return half the interval's width, rounded up."""
    return -(-reading.clock.width_at(reading.boot_us) // 2000)


def shown(reading: Reading) -> dict[str, object]:
    """Return all there is to see, with what was refused."""
    refused = [f"{show(from_ms(one.at_ms))} {one.kind}: {one.code}: {one.detail}" for one in reading.refused_times]
    return {**document(reading), "refused": refused}


def lines(found: dict[str, object]) -> str:
    """Return the same for people."""
    refused = found["refused"]
    listed = [f"  {one}" for one in refused] if isinstance(refused, list) and refused else ["  nothing"]
    rows = [f"{name:20} {value}" for name, value in found.items() if name != "refused"]
    return "\n".join([*rows, "refused", *listed])


def sock_sample(reading: Reading) -> bytes:
    """Return one datagram for chronyd: what the system clock showed, and how many seconds true time is ahead of it.

    Raises:
        TimeUnknown: the clock is unsynced.
    """
    _require(reading)
    seconds, micros = divmod(reading.system_us, MILLION)
    return SOCK_SAMPLE.pack(seconds, micros, reading.off_us / MILLION, 0, 0, 0, SOCK_MAGIC)


def export(reading: Reading, file: Path | None, sock: Path | None) -> None:
    """Hand the time on.

    Raises:
        TimeUnknown: the clock is unsynced; the file says so too. OSError: it cannot be written, or nobody listens.
    """
    if file is not None:
        write_durably(file, json.dumps(document(reading)).encode() + b"\n", READABLE)
    _require(reading)
    if sock is not None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(sock_sample(reading), str(sock))


def export_until(stop: Callable[[], bool], hand_on: Callable[[], None], wait: Callable[[], None], log: Log) -> None:
    """Hand the time on again and again; a time that is unknown, or a listener that is away, is waited for."""
    while not stop():
        try:
            hand_on()
        except (TimeUnknown, NotStarted, OSError) as problem:
            log("not-exported", {"problem": str(problem)})
        wait()


def set_system(reading: Reading) -> str:
    """Set the system clock to the middle of the interval, if it shows a time outside; return what was done.

    Raises:
        TimeUnknown: the clock is unsynced. PermissionError: not allowed; needs CAP_SYS_TIME.
    """
    _require(reading)
    off_us = to_set_us(reading)
    if not off_us:
        return f"the system clock is within {uncertainty_ms(reading)} ms of trusted time: not set"
    now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    time.clock_settime_ns(time.CLOCK_REALTIME, now_ns + off_us * 1000)
    return f"the system clock was moved by {off_us / MILLION:+.3f} s"


def to_set_us(reading: Reading) -> int:
    """Return by how much the system clock is to be moved: nothing while what it shows may be the truth."""
    inside = reading.clock.earliest_at(reading.boot_us) <= reading.system_us <= reading.clock.latest_at(reading.boot_us)
    return 0 if inside else reading.off_us


def _require(reading: Reading) -> None:
    if not reading.synced:
        raise TimeUnknown("the time is not known: no answer has counted in this boot, or none for too long")


def _shown(us: int) -> str:
    return show(EPOCH + timedelta(microseconds=us))
