"""What ``fleetward-agent run`` does, and what the service starts: ``python -m fleetward_agent.serve PATH``.

PATH is agent.toml or a provisioned folder; all else stands there. A program of its own, because what reads a command
line, diagnoses and explains would be carried for as long as the agent runs: memory is the device's.
"""

import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path

from fleetward_agent.assembly import assemble
from fleetward_agent.config import Config, ConfigProblem, Site, declared, load_site, site_of_folder
from fleetward_agent.device import Device
from fleetward_agent.lock import Busy, alone
from fleetward_agent.run import Host, World
from fleetward_agent.state import StateProblem
from fleetward_agent.trial import Trial
from fleetward_agent.upgrade_effects import Needs
from fleetward_broker.key_problems import KeyUnavailable, TokenLost, WrongPin
from fleetward_broker.link import SelectorLink
from fleetward_broker.logs import start_logging
from fleetward_schemas.errors import Refused

CLOSE_WITHIN_S = 6.0
POLL_S = 0.5
AGAIN_S = 3.0
REBOOT_S = 30.0
WARNINGS = frozenset(
    {"refused", "storage-failed", "effect-failed", "key-unavailable", "report-refused", "state-from-backup", "alert"}
    | {"scanner-problem", "waiting-for-keys", "not-exported", "local-refused", "local-unsigned", "local-not-written"}
    | {"upgrade-problem", "upgrade-work-late"}
)
QUIET = frozenset({"took", "line", "looked", "left"})


class Exit(IntEnum):
    """What the program ends with."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    VERIFICATION = 7
    TIMEOUT = 8
    RESTART = 75
    INTERRUPTED = 130


USAGE = "usage: python -m fleetward_agent.serve AGENT.TOML | FOLDER"


def main(words: Sequence[str]) -> int:
    """Work as one file or folder says; return the exit code."""
    if len(words) != 1 or words[0].startswith("-"):
        return say(USAGE, Exit.USAGE)
    path = Path(words[0])
    return ended(lambda: serve(site_of_folder(path) if path.is_dir() else load_site(path)))


def ended(work: Callable[[], Exit]) -> Exit:
    """Do the work; say in one line what kept it from its end, and return the exit code."""
    try:
        return work()
    except (ConfigProblem, KeyUnavailable) as problem:
        return say(problem, Exit.USAGE)
    except (StateProblem, Refused) as problem:
        return say(problem, Exit.VERIFICATION)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Of stdout: whoever reads has seen enough, and what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (Busy, OSError, sqlite3.Error) as problem:
        return say(problem, Exit.UNEXPECTED)


def say(problem: object, code: Exit) -> Exit:
    """Tell what is wrong, and return the code to end with."""
    print(f"fleetward-agent: {problem}", file=sys.stderr)
    return code


def serve(site: Site, level: str | None = None, form: str | None = None) -> Exit:
    """Work until SIGTERM or SIGINT. level, form: of the log, in place of the configuration's."""
    start_logging(level or site.log.level, form or site.log.format)
    stop = Stop()
    wants = _serve_plugs(site, stop) if site.drivers else _serve_one(site, stop)
    if wants is not None and not stop():
        if wants is Needs.REBOOT:
            _reboot(site.upgrade.reboot)
        return Exit.RESTART
    return Exit.INTERRUPTED if stop.by == signal.SIGINT else Exit.OK


def _serve_one(site: Site, stop: "Stop") -> Needs | None:
    """Work for the device that the papers declare; return what an upgrade needs then."""
    config = declared(site)
    with alone(config.state_dir):
        device = _assembled(config, stop)
        if device is None:
            return None
        link, world = SelectorLink(time.monotonic), World.real(log)
        host, alive = Host(link, [device], world), Trial()
        with _telling(site, host, link, world) as told:
            while not stop() and host.wants is None:
                host.turn(POLL_S)
                told()
                alive()
        wants = host.wants
        _close(host, link)
    return wants


def _reboot(words: Sequence[str]) -> None:
    """Have the host rebooted by the configured program; if it does not, the upgrade that wanted it fails in time."""
    # Only here: who needs it is about to end.
    import subprocess

    log("reboot", {"program": words[0] if words else "none"})
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(list(words) or ["/bin/false"], stdin=subprocess.DEVNULL, timeout=REBOOT_S, check=False)


def _telling(site: Site, host: Host, link: SelectorLink, world: World) -> AbstractContextManager[Callable[[], None]]:
    """Tell the host's software of its devices, if the configuration says so; call what is given after each turn."""
    if not (site.local.file or site.local.socket):
        return nullcontext(lambda: None)
    # Only here: a host whose software asks nothing needs none of it.
    from fleetward_agent.local import telling

    return telling(site, host, link, world)


def _assembled(config: Config, stop: "Stop") -> Device | None:
    """Return the device, or None when told to stop before its keys are there.

    A token that is away, or wants another PIN, is waited for here: each new process would try a wrong PIN again.
    """
    said = ""
    while not stop():
        try:
            return assemble(config)
        except (TokenLost, WrongPin) as problem:
            if str(problem) != said:
                said = str(problem)
                log("waiting-for-keys", {"problem": said})
            Trial()()
            stop.wait(AGAIN_S)
    return None


def _serve_plugs(site: Site, stop: "Stop") -> Needs | None:
    """Work for every scanner that is plugged in, now or later; return what an upgrade needs then."""
    # Only here: pyudev is the weight of a host whose scanners come and go.
    from fleetward_agent.plugs import DRIVERS, UDEV, Plugs
    from fleetward_agent.probe import UdevBus

    link, world = SelectorLink(time.monotonic), World.real(log)
    host, bus = Host(link, [], world), UdevBus(site.drivers)
    plugs = Plugs(site, host, bus, world)
    link.watch(bus, UDEV)
    link.watch(plugs.programs, DRIVERS)
    with _telling(site, host, link, world) as told:
        while not stop() and host.wants is None:
            plugs.turn(POLL_S)
            told()
    wants = host.wants
    plugs.shutdown()
    _close(host, link)
    return wants


def _close(host: Host, link: SelectorLink) -> None:
    host.shut()
    deadline = time.monotonic() + CLOSE_WITHIN_S
    host.run(lambda: host.closed or time.monotonic() > deadline, POLL_S)
    link.shutdown()
    host.release()


class Stop:
    """Whether a signal asked to stop, and which."""

    def __init__(self) -> None:
        self.by: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _: object) -> None:
        self.by = number

    def __call__(self) -> bool:
        """Say whether to stop."""
        return self.by is not None

    def wait(self, seconds: float) -> None:
        """Let time pass, unless told to stop."""
        deadline = time.monotonic() + seconds
        while not self() and time.monotonic() < deadline:
            time.sleep(POLL_S)


def log(event: str, fields: Mapping[str, str | int]) -> None:
    """Write one line."""
    level = logging.WARNING if event in WARNINGS else logging.DEBUG if event in QUIET else logging.INFO
    logging.getLogger("fleetward.agent").log(level, event, extra=dict(fields))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
