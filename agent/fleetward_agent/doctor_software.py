"""What ``doctor`` looks at for each ``[[software]]``: that who shall install it can. Nothing is changed."""

import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from fleetward_agent.config import Config, ConfigProblem
from fleetward_agent.installers import ENTRY_POINTS
from fleetward_agent.software import AgentItself, Makers, Module, OneFile, Slots, Software, TrustAnchors

CURRENT = "current"


def software(config: Config, one: Software) -> str:
    """Look at one piece of software.

    Raises:
        ConfigProblem: it could not be installed; the message says what to do.
    """
    for program in _programs(one):
        if not os.access(program, os.X_OK):
            raise ConfigProblem(f"{program}: cannot be run; is it installed, and is its mode 755?")
    if isinstance(one, Makers):
        found = list(entry_points(group=ENTRY_POINTS, name=one.installer))
        if len(found) != 1:
            raise ConfigProblem(f"{one.installer!r}: {len(found)} entry points of {ENTRY_POINTS}; is it installed?")
        return f"{one.installer}: {found[0].value}"
    place = _place(config, one)
    _writable(place)
    if isinstance(one, (Slots, AgentItself)):
        link = place / CURRENT
        if link.exists() and not link.is_symlink():
            raise ConfigProblem(f"{link}: expected a link to a or b; move what is there into {place / 'a'}")
        held = str(link.readlink()) if link.is_symlink() else "none yet"
        return f"{one.installer}: {place}, {CURRENT}: {held}"
    return f"{one.installer}: {place}"


def reboots(config: Config) -> str:
    """Look at the program that reboots the host. Raises as ``software``."""
    words = config.upgrade.reboot
    if not words:
        return "none: nothing that needs a reboot is taken"
    if not os.access(words[0], os.X_OK):
        raise ConfigProblem(f"{words[0]}: cannot be run; see [upgrade] reboot")
    return " ".join(words)


def _programs(one: Software) -> Iterator[str]:
    if isinstance(one, Module):
        yield one.program
    elif isinstance(one, (Slots, OneFile)):
        yield from (words[0] for words in (one.apply, one.check) if words)


def _place(config: Config, one: Software) -> Path:
    """Return the folder that its installer writes into."""
    match one:
        case Slots() | AgentItself():
            return config.folder / one.folder
        case OneFile():
            return (config.folder / one.path).parent
        case TrustAnchors():
            return (config.folder / config.files.mosip_anchors).parent
        case _:
            return config.state_dir


def _writable(folder: Path) -> None:
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigProblem(f"{there}: the agent cannot write there, and {folder} is where it would")
