"""``[local]`` of agent.toml: what the host's own software may read of its devices."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from fleetward_agent.reading import ConfigProblem

MODE = re.compile("0?[46][046]0")
CALLBACK = re.compile(r"[a-zA-Z][\x21-\x7e]{0,127}")


@dataclass(frozen=True, slots=True)
class LocalTable:
    """What the host's software may read: device info in a file, behind a socket; neither is there unless named.

    mode: octal, of both. users: who may ask beside root and the agent's own. callback: of the host's interface.
    """

    file: str = ""
    socket: str = ""
    mode: str = "0640"
    users: list[str] = field(default_factory=list)
    callback: str = "http://127.0.0.1:4501/"


def check_local(table: LocalTable, path: Path) -> None:
    """Check what a type does not say.

    Raises:
        ConfigProblem: naming the key.
    """
    if not MODE.fullmatch(table.mode):
        raise ConfigProblem(f"{path}: [local] mode = {table.mode!r}: expected octal, nothing for others: '0640'")
    if not all(isinstance(name, str) for name in table.users):
        raise ConfigProblem(f"{path}: [local] users = {table.users!r}: expected names")
    if not CALLBACK.fullmatch(table.callback):
        raise ConfigProblem(f"{path}: [local] callback = {table.callback!r}: expected an address of 128 characters")
