"""The server's desk: which handler takes which kind. One line per kind; a test holds it against KINDS."""

from collections.abc import Callable

from fleetward_server import enrol, rotation
from fleetward_server.clock import on_time
from fleetward_server.commands import on_result
from fleetward_server.enrol import on_enrol, on_hello
from fleetward_server.inventory import on_info
from fleetward_server.presence import on_status
from fleetward_server.rotation import on_csr
from fleetward_server.telemetry import on_alert, on_telemetry
from fleetward_server.turn import Issued, Known, Policy, Said, Turn
from fleetward_server.upgrade import on_progress

Handler = Callable[[Said, Known, Policy], Turn]

HANDLERS: dict[str, Handler] = {
    "time": on_time,
    "hello": on_hello,
    "enrol": on_enrol,
    "csr": on_csr,
    "status": on_status,
    "telemetry": on_telemetry,
    "info": on_info,
    "result": on_result,
    "alert": on_alert,
    "progress": on_progress,
}

Certified = Callable[[Said, Issued, Known, Policy], Turn]

ISSUED: dict[str, tuple[Certified, Handler]] = {
    "enrol": (enrol.on_issued, enrol.on_busy),
    "csr": (rotation.on_issued, rotation.on_busy),
}
"""Who goes on when the authority has certified what a kind asked for, and when its key is away."""
