#!/usr/bin/env python3
"""``fleetward-agent-launch [--once] SLOTS PATH``: starts the agent, in the version that is to run.

SLOTS holds versions of the agent in ``a`` and ``b``; ``current`` leads to the one that runs, and where there is none
the agent runs that is installed beside this file. ``trial.json`` names a slot that is to be tried: each start of it is
counted before it happens, and after three that did not lead to its being kept the launcher goes back to ``current`` by
itself, even if the new version cannot be imported. A trial that hangs is ended by an alarm, which the agent's loop
winds up again while it turns. PATH: agent.toml or a provisioned folder.

With ``--once`` (for a service manager) this process becomes the agent; without, it stays and starts it again where it
asks for that (exit 75), or died. Only Python's own library is used, and nothing of the agent's: a broken version cannot
break it. Source: protocol section 5 "Releases", point 7.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

TRIAL = "trial.json"
FALLEN = "fallen.json"
CURRENT = "current"
NAMES = ("a", "b")
SLOTS, SLOT, ON_TRIAL = "FLEETWARD_SLOTS", "FLEETWARD_SLOT", "FLEETWARD_TRIAL"
"""What the agent is told in its environment: the folder, the slot it runs from, whether it is tried."""
MOST_STARTS = 3
HANG_S = 120
AGAIN = 75
USAGE = 2
AFTER_DEATH_S = 1.0
FLAGS = ("-I", "-OO", "-X", "no_debug_ranges")
FROM_SLOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from fleetward_agent.serve import main; sys.exit(main(sys.argv[1:]))"
)


def main(words: list[str] | None = None) -> int:
    """Start the agent."""
    words = sys.argv[1:] if words is None else words
    once = words[:1] == ["--once"]
    words = words[1:] if once else words
    if len(words) != 2 or words[0].startswith("-"):
        print("usage: fleetward-agent-launch [--once] SLOTS AGENT.TOML | FOLDER", file=sys.stderr)
        return USAGE
    return become(Path(words[0]), words[1]) if once else stay(words)


def become(slots: Path, path: str) -> int:
    """Become the agent."""
    slots = Path(os.path.realpath(slots))
    slot, tried = choose(slots)
    told = dict(os.environ) | {SLOTS: str(slots), SLOT: slot}
    told.pop(ON_TRIAL, None)
    if tried:
        told[ON_TRIAL] = str(HANG_S)
        # Kept over exec: what never reaches its loop is ended.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANG_S)
    start = ["-c", FROM_SLOT, str(slots / slot)] if slot else ["-m", "fleetward_agent.serve"]
    os.execve(sys.executable, [sys.executable, *FLAGS, *start, path], told)  # noqa: S606 - without a shell is meant


def choose(slots: Path) -> tuple[str, bool]:
    """Return the slot to start, empty for what is installed, and whether it is on trial; count a trial's start."""
    tried, starts = trial(slots)
    if tried and starts < MOST_STARTS:
        try:
            write(slots / TRIAL, {"slot": tried, "starts": starts + 1})
        except OSError as error:
            # What cannot be counted is not tried.
            print(f"fleetward-agent-launch: {slots / TRIAL}: {error.strerror}", file=sys.stderr)
        else:
            return tried, True
    elif (slots / TRIAL).exists():
        fall(slots, tried)
    return current(slots), False


def trial(slots: Path) -> tuple[str, int]:
    """Return the slot on trial and its starts so far; nothing where there is no trial, or none that can be read."""
    try:
        found = json.loads((slots / TRIAL).read_text())
        slot, starts = found["slot"], found["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0
    lawful = slot in NAMES and isinstance(starts, int) and starts >= 0 and (slots / slot).is_dir()
    return (slot, starts) if lawful else ("", 0)


def fall(slots: Path, slot: str) -> None:
    """Give a trial up, and leave word for the version before."""
    print(f"fleetward-agent-launch: slot {slot or '?'} did not stay; the version before is started", file=sys.stderr)
    try:
        (slots / TRIAL).replace(slots / FALLEN)
        sync(slots)
    except OSError as error:
        print(f"fleetward-agent-launch: {slots / TRIAL}: {error.strerror}", file=sys.stderr)


def current(slots: Path) -> str:
    """Return the slot that ``current`` leads to; empty where it leads nowhere."""
    try:
        slot = str((slots / CURRENT).readlink())
    except OSError:
        return ""
    return slot if slot in NAMES and (slots / slot).is_dir() else ""


def write(path: Path, document: dict[str, object]) -> None:
    """Replace a file so that a crash leaves the old or the new one."""
    temporary = path.with_name(f".{path.name}.launch")
    with temporary.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stay(words: list[str]) -> int:
    """Start the agent, and again when it asks for it or died; pass on what ends it."""
    told: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        told.append(number)
        if child is not None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        child = subprocess.Popen([sys.executable, "-I", os.path.abspath(__file__), "--once", *words])  # noqa: PTH100
        if told:
            child.send_signal(told[-1])
        code = child.wait()
        if told:
            return code if code >= 0 else 128 - code
        slots = Path(words[0])
        if code == AGAIN:
            continue
        if code >= 0 and not trial(slots)[0]:
            return code
        time.sleep(AFTER_DEATH_S)


if __name__ == "__main__":
    sys.exit(main())
