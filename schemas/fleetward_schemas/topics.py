"""Topics and the principals in them: who may be named where, in one grammar for brokers, agents and server.

Source: protocol sections 1 and 2. A principal is the CN of a TLS client certificate.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NewType

from fleetward_schemas.errors import Code, Refused

DeviceId = NewType("DeviceId", str)

ROOT = "fw/v1"
ID_CHARS = 26
MAX_TOPIC_CHARS = 128
_ID = re.compile(r"[a-z2-7]{26}", re.ASCII)
_VIEW = re.compile(r"view-[a-z0-9-]{1,32}", re.ASCII)
_KIND = re.compile(r"[a-z][a-z-]{0,31}", re.ASCII)
_FILE = re.compile(r"timestamp|[1-9][0-9]{0,9}\.[a-z][a-z0-9-]{0,31}", re.ASCII)


class Role(StrEnum):
    """What a TLS principal is, by the spelling of its name; its certificate's CA must agree."""

    DEVICE = "device"
    FACTORY = "factory"
    SERVER = "server"
    VIEW = "view"


class Direction(StrEnum):
    """The level of a topic that tells who speaks to whom."""

    UP = "up"
    DOWN = "down"
    FLEET = "fleet"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Principal:
    """One name on the line. device_id: the device behind ``<id>`` and ``f-<id>``; None for server and views."""

    name: str
    role: Role
    device_id: DeviceId | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A topic taken apart. principal: the device's side of a per-device topic, else None. file: of a ``release``."""

    direction: Direction
    kind: str
    principal: Principal | None = None
    file: str | None = None


def principal_of(name: str) -> Principal | None:
    """Return the principal that ``name`` spells, or None when no rule of ours makes such a name."""
    if _ID.fullmatch(name):
        return Principal(name, Role.DEVICE, DeviceId(name))
    if name.startswith("f-") and _ID.fullmatch(name[2:]):
        return Principal(name, Role.FACTORY, DeviceId(name[2:]))
    if name == "server":
        return Principal(name, Role.SERVER)
    return Principal(name, Role.VIEW) if _VIEW.fullmatch(name) else None


def up(principal: str, kind: str) -> str:
    """Return the topic on which ``principal`` publishes ``kind``."""
    return f"{ROOT}/d/{principal}/up/{kind}"


def down(principal: str, kind: str) -> str:
    """Return the topic on which the server sends ``kind`` to ``principal``."""
    return f"{ROOT}/d/{principal}/down/{kind}"


def fleet(kind: str) -> str:
    """Return the topic of a message to the whole fleet."""
    return f"{ROOT}/fleet/{kind}"


def release(file: str) -> str:
    """Return the topic of one file of the release repository: TUF's names without ``.json``."""
    return f"{ROOT}/fleet/release/{file}"


def is_release_file(name: str) -> bool:
    """Say whether a file of the release repository may be called so on the wire."""
    return _FILE.fullmatch(name) is not None


def read_topic(topic: str) -> Address:
    """Take a topic name apart.

    Raises:
        Refused: ``wrong-topic``: not one of ours.
    """
    if len(topic) > MAX_TOPIC_CHARS:
        raise Refused(Code.WRONG_TOPIC, f"{len(topic)} characters: at most {MAX_TOPIC_CHARS}")
    return _read_topic(topic)


@lru_cache(maxsize=16384)
def _read_topic(topic: str) -> Address:
    match topic.split("/"):
        case ["fw", "v1", "d", name, ("up" | "down") as direction, kind] if _KIND.fullmatch(kind):
            principal = principal_of(name)
            if principal is not None and principal.device_id is not None:
                return Address(Direction(direction), kind, principal)
        case ["fw", "v1", "fleet", "release", file] if _FILE.fullmatch(file):
            return Address(Direction.FLEET, "release", file=file)
        case ["fw", "v1", ("fleet" | "view") as direction, kind] if _KIND.fullmatch(kind) and kind != "release":
            return Address(Direction(direction), kind)
    raise Refused(Code.WRONG_TOPIC, "not a topic of this protocol")
