"""The gate: one pure rule from (principal, action, topic) for every broker we run or configure.

A device writes under its own ``up``, reads its own ``down`` and the fleet's topics; the server reads and writes the
protocol's tree; a view reads the view's. All else is denied: ``#``, ``$SYS``, another's topics, shared groups.
Source: protocol section 2.
"""

from enum import StrEnum

from fleetward_schemas.errors import Refused
from fleetward_schemas.topics import ROOT, Principal, Role, read_topic

MAX_PACKET_BYTES = 64 * 1024
MAX_FILTER_CHARS = 256


class Action(StrEnum):
    """What a principal wants of a topic. RECEIVE is asked again at delivery; WILL and RETAIN are publishes."""

    PUBLISH = "publish"
    RETAIN = "retain"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"


def may(principal: Principal, action: Action, topic: str) -> bool:
    """Say whether ``principal`` may do ``action`` on a topic name (or, for SUBSCRIBE, a topic filter)."""
    if not topic or len(topic) > MAX_FILTER_CHARS or "\0" in topic or topic.startswith("$"):
        return False
    if action is Action.SUBSCRIBE:
        return is_filter(topic) and any(_inside(topic, tree) for tree in reads(principal))
    if "+" in topic or "#" in topic:
        return False
    if action is Action.RECEIVE:
        return any(_inside(topic, tree) for tree in reads(principal))
    if principal.role is Role.SERVER:
        return any(topic.startswith(tree) for tree in writes(principal))
    # A device's words are never kept by the broker: retained topics are the server's.
    return action is Action.PUBLISH and principal.device_id is not None and _own_up(principal, topic)


def is_filter(text: str) -> bool:
    """Say whether ``text`` is a well-formed topic filter (MQTT 3.1.1 section 4.7.1)."""
    levels = text.split("/")
    for place, level in enumerate(levels):
        if level == "#" and place != len(levels) - 1:
            return False
        if level not in {"#", "+"} and ("#" in level or "+" in level):
            return False
    return True


def _own_up(principal: Principal, topic: str) -> bool:
    try:
        address = read_topic(topic)
    except Refused:
        return False
    return address.principal == principal and any(topic.startswith(tree) for tree in writes(principal))


def reads(principal: Principal) -> tuple[str, ...]:
    """Return the trees a principal may read, each as the prefix that ends in ``/``."""
    match principal.role:
        case Role.SERVER:
            return (f"{ROOT}/",)
        case Role.VIEW:
            return (f"{ROOT}/view/",)
        case Role.DEVICE | Role.FACTORY:
            return (f"{ROOT}/d/{principal.name}/down/", f"{ROOT}/fleet/")


def writes(principal: Principal) -> tuple[str, ...]:
    """Return the trees a principal may write, each as the prefix that ends in ``/``; a device one level deep."""
    match principal.role:
        case Role.SERVER:
            return (f"{ROOT}/",)
        case Role.VIEW:
            return ()
        case Role.DEVICE | Role.FACTORY:
            return (f"{ROOT}/d/{principal.name}/up/",)


def _inside(wanted: str, tree: str) -> bool:
    """Say whether every topic that ``wanted`` (a name or a filter) matches lies below ``tree``."""
    return wanted.startswith(tree) and len(wanted) > len(tree)
