"""Whom arrivals speak of, before anything in them is believed: what to read at once, and whose counter moves."""

from fleetward_broker.line import Arrived
from fleetward_schemas.errors import Refused
from fleetward_schemas.header import read_header
from fleetward_schemas.topics import DeviceId, Direction, read_topic
from fleetward_server.store import Unit

UNKNOWN = "unknown"


def touched(arrived: list[Arrived]) -> tuple[set[DeviceId], set[tuple[str, str]]]:
    """Return the devices and windows a batch speaks of, to be read at once; nothing is believed here."""
    devices, windows = set(), set()
    for one in arrived:
        try:
            principal = read_topic(one.topic).principal
            signer = read_header(one.payload.partition(b".")[0]).x5t
        except Refused:
            continue
        if principal is not None and principal.device_id is not None:
            devices.add(principal.device_id)
        if signer is not None:
            windows.add((signer, one.topic))
    return devices, windows


def principal_named(topic: str, rows: Unit) -> str:
    """Return whose counter moves: a principal we have a record of, else one counter for all others."""
    try:
        address = read_topic(topic)
    except Refused:
        return UNKNOWN
    principal = address.principal
    if address.direction is not Direction.UP or principal is None or principal.device_id is None:
        return UNKNOWN
    return principal.name if rows.device(principal.device_id) is not None else UNKNOWN
