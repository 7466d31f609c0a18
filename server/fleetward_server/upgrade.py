"""Upgrades at the server. Nothing is assigned yet, so that no progress can be of an assignment.

Source: S7; protocol section 4 "progress"; C10: a name that the server did not say is not kept.
"""

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.upgrade import Progress
from fleetward_server.turn import Known, Policy, Said, Turn


def on_progress(said: Said, _: Known, __: Policy) -> Turn:
    """Refuse it.

    Raises:
        Refused: ``bad-body``: of no assignment that was made.
    """
    if not isinstance(said.body, Progress):
        raise LocalMistake("on_progress was given another kind")
    raise Refused(Code.BAD_BODY, f"no assignment {said.body.assignmentVersion} was made for this device")
