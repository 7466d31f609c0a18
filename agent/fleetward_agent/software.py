"""``[[software]]`` and ``[upgrade]`` of agent.toml: what can be installed here, by what, and how it is fetched. Pure.

A name stands in the server's assignments and in the targets' ``custom``; what is not named here is never installed.
Source: protocol section 5 "Releases", points 5 to 7.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetward_agent.reading import ConfigProblem, require_known, table_of
from fleetward_agent.upgrade_effects import Needs

FILE = "software.toml"
"""In a provisioned folder without agent.toml."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
RESTARTS = tuple(Needs)
MODE = re.compile("0?[4-7][0145][0145]")
MOST_SOFTWARE = 16


@dataclass(frozen=True, slots=True)
class UpgradeTable:
    """reboot: the program that reboots the host; without one nothing that needs a reboot is installed.

    host_authorities: downloads may also be from servers that the host's own authorities certify. proxy: empty: as the
    environment says. most_bytes: the longest package; 0: any that fits the disk. health_s: how long a version
    has to prove well.
    """

    reboot: list[str] = field(default_factory=list)
    host_authorities: bool = False
    proxy: str = ""
    most_bytes: int = 0
    health_s: int = 600


@dataclass(frozen=True, slots=True)
class Slots:
    """A tar archive, unpacked into one of two folders; the link ``current`` leads to the one that runs."""

    name: str = ""
    installer: str = "slots"
    folder: str = ""
    check: list[str] = field(default_factory=list)
    apply: list[str] = field(default_factory=list)
    restart: str = Needs.NOTHING
    within_s: int = 600
    most_bytes: int = 2 << 30
    most_entries: int = 50_000


@dataclass(frozen=True, slots=True)
class OneFile:
    """One file, replaced; its predecessor is kept beside it."""

    name: str = ""
    installer: str = "file"
    path: str = ""
    mode: str = "0644"
    check: list[str] = field(default_factory=list)
    apply: list[str] = field(default_factory=list)
    restart: str = Needs.NOTHING
    within_s: int = 600


@dataclass(frozen=True, slots=True)
class Module:
    """A Mender update module, version 3. one_way: it may be one that cannot roll back."""

    name: str = ""
    installer: str = "module"
    program: str = ""
    device_type: str = ""
    one_way: bool = False
    within_s: int = 1800


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """The device's MOSIP anchors, ``[identity] mosip_anchors``."""

    name: str = ""
    installer: str = "trust-anchors"


@dataclass(frozen=True, slots=True)
class AgentItself:
    """This agent, in slots that its launcher chooses from. soak_s: how long it must have run well to be kept."""

    name: str = ""
    installer: str = "agent"
    folder: str = "agent"
    most_bytes: int = 256 << 20
    soak_s: int = 30


@dataclass(frozen=True, slots=True)
class Makers:
    """A maker's own installer: an entry point; it reads ``options`` itself."""

    name: str = ""
    installer: str = ""
    options: dict[str, Any] = field(default_factory=dict)


Software = Slots | OneFile | Module | TrustAnchors | AgentItself | Makers
BUILT_IN: dict[str, type] = {
    "slots": Slots,
    "file": OneFile,
    "module": Module,
    "trust-anchors": TrustAnchors,
    "agent": AgentItself,
}
_NEEDED = {"slots": "folder", "file": "path", "module": "program", "agent": "folder"}


def read_software(value: Any, path: Path, text: str, upgrade: UpgradeTable) -> tuple[Software, ...]:
    """Read the list. value: what stands at ``software`` in the file.

    Raises:
        ConfigProblem: an entry cannot be used; the message names it.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigProblem(f"{path}: software must be a list of tables: [[software]]")
    if len(value) > MOST_SOFTWARE:
        raise ConfigProblem(f"{path}: {len(value)} times [[software]]: at most {MOST_SOFTWARE}")
    found = tuple(_software(entry, path, text, upgrade) for entry in value)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigProblem(f"{path}: [[software]] {name!r} stands twice")
    return found


def check_upgrade(table: UpgradeTable, path: Path) -> None:
    """Check what a type does not say.

    Raises:
        ConfigProblem: naming the key.
    """
    _program(table.reboot, f"{path}: [upgrade] reboot")
    if table.proxy and not re.fullmatch(r"https?://[\x21-\x7e]+", table.proxy):
        raise ConfigProblem(f"{path}: [upgrade] proxy = {table.proxy!r}: expected http://HOST:PORT")


def _software(entry: dict[str, Any], path: Path, text: str, upgrade: UpgradeTable) -> Software:
    where = f"{path}: [software {entry.get('name') or '?'}]"
    name, installer = entry.get("name"), entry.get("installer")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigProblem(f"{where} name = {name!r}: expected letters a-z, digits and dashes, as in the targets")
    if not isinstance(installer, str) or not installer:
        raise ConfigProblem(f"{where} needs installer: {', '.join(BUILT_IN)}, or a maker's own")
    kind = BUILT_IN.get(installer)
    if kind is None and "options" not in entry:
        # A maker's own is looked for when it is needed; a slip of the pen is told now.
        require_known(installer, BUILT_IN, path, text)
    found: Software = table_of(kind or Makers, entry, (path, text, f"software {name}"))
    _check(found, where, upgrade)
    return found


def _check(found: Software, where: str, upgrade: UpgradeTable) -> None:
    needed = _NEEDED.get(found.installer, "name")
    if not getattr(found, needed):
        raise ConfigProblem(f"{where} needs {needed}")
    if isinstance(found, Module):
        _program([found.program], f"{where} program")
    if not isinstance(found, (Slots, OneFile)):
        return
    _program(found.check, f"{where} check")
    _program(found.apply, f"{where} apply")
    if found.restart not in RESTARTS:
        raise ConfigProblem(f"{where} restart = {found.restart!r}: expected one of {', '.join(RESTARTS)}")
    if found.restart == Needs.REBOOT and not upgrade.reboot:
        raise ConfigProblem(f"{where} restart = 'reboot': needs [upgrade] reboot, the program that does it")
    if isinstance(found, OneFile) and not MODE.fullmatch(found.mode):
        raise ConfigProblem(f"{where} mode = {found.mode!r}: expected octal, written by nobody else: '0644'")


def _program(words: list[str], where: str) -> None:
    if not words:
        return
    if not all(isinstance(word, str) for word in words) or not words[0].startswith("/"):
        raise ConfigProblem(f"{where} = {words!r}: expected words, the first an absolute path; no shell is involved")
