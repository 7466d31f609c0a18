"""KINDS: the closed table of all that can be said. Gates, docs, JSON Schema and exhaustiveness tests derive from it.

A new kind is its shape in a module of its own and one line here; its handler is one line in that end's desk.
No kind asks for a capture and none can carry one (S8, C9). Source: protocol section 4.
"""

from dataclasses import dataclass

from fleetward_schemas.clock import Beacon, TimeAnswer, TimeQuestion
from fleetward_schemas.commands import Command, Result
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.enrol import Challenge, Enrol, Enrolled, Hello
from fleetward_schemas.inventory import Info
from fleetward_schemas.presence import Status
from fleetward_schemas.receipts import Ack, Alert
from fleetward_schemas.rotation import Certificate, Csr
from fleetward_schemas.shapes import Body
from fleetward_schemas.telemetry import Telemetry
from fleetward_schemas.topics import Direction, Role
from fleetward_schemas.upgrade import Assignment, Progress, ReleaseFile

SHORT_S = 120
WEEK_S = 7 * 24 * 3600
AHEAD_S = 30
"""How far ahead of the receiver's time a timestamp may lie."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of the table.

    max_age_s: oldest timestamp accepted, seconds; None where a nonce alone decides.
    nonce_bound: carries ``seq`` 0, which is not checked. report: waits in an outbox until an ack names it.
    principals: whose side of a per-device topic it may stand on.
    """

    name: str
    direction: Direction
    body: type[Body]
    principals: frozenset[Role]
    max_age_s: int | None
    nonce_bound: bool = False
    report: bool = False
    qos: int = 1
    retained: bool = False
    expires: bool = False


_BOTH = frozenset({Role.DEVICE, Role.FACTORY})
_DEVICE = frozenset({Role.DEVICE})
_FACTORY = frozenset({Role.FACTORY})
_UP, _DOWN, _FLEET = Direction.UP, Direction.DOWN, Direction.FLEET

_TABLE = (
    Kind("time", _UP, TimeQuestion, _BOTH, None, nonce_bound=True),
    Kind("hello", _UP, Hello, _FACTORY, SHORT_S, nonce_bound=True),
    Kind("enrol", _UP, Enrol, _FACTORY, SHORT_S, nonce_bound=True),
    Kind("status", _UP, Status, _DEVICE, SHORT_S),
    Kind("csr", _UP, Csr, _DEVICE, SHORT_S),
    Kind("telemetry", _UP, Telemetry, _DEVICE, WEEK_S, report=True),
    Kind("info", _UP, Info, _DEVICE, WEEK_S, report=True),
    Kind("result", _UP, Result, _DEVICE, WEEK_S, report=True),
    Kind("alert", _UP, Alert, _DEVICE, WEEK_S, report=True),
    Kind("progress", _UP, Progress, _DEVICE, WEEK_S, report=True),
    Kind("time", _DOWN, TimeAnswer, _BOTH, None, nonce_bound=True),
    Kind("challenge", _DOWN, Challenge, _FACTORY, SHORT_S, nonce_bound=True),
    Kind("enrolled", _DOWN, Enrolled, _BOTH, SHORT_S, nonce_bound=True),
    Kind("ack", _DOWN, Ack, _DEVICE, WEEK_S),
    Kind("command", _DOWN, Command, _DEVICE, WEEK_S, expires=True),
    Kind("certificate", _DOWN, Certificate, _DEVICE, WEEK_S),
    Kind("encryption", _DOWN, Encryption, _DEVICE, WEEK_S),
    Kind("assignment", _DOWN, Assignment, _DEVICE, WEEK_S),
    Kind("beacon", _FLEET, Beacon, _BOTH, None, qos=0),
    Kind("release", _FLEET, ReleaseFile, _DEVICE, None, nonce_bound=True, retained=True),
)

KINDS: dict[tuple[Direction, str], Kind] = {(kind.direction, kind.name): kind for kind in _TABLE}
