"""Upgrades at the device. Without the first root of a release repository, which the factory puts in, none is taken.

Source: S7, C7, C8; protocol section 5 "Releases".
"""

from fleetward_agent.instant import Instant
from fleetward_agent.reports import add_report
from fleetward_agent.session import Session
from fleetward_agent.turn import Known, Note, Said, Turn
from fleetward_agent.upgrade_effects import UpgradeOutcome
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.upgrade import Assignment, Phase, Progress, ReleaseFile, Why


def on_assignment(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Refuse each release: there is nothing to check it against."""
    if not isinstance(said.body, Assignment):
        raise LocalMistake("on_assignment was given another kind")
    turn = Turn(session)
    for release in said.body.releases:
        told = Progress(
            assignmentVersion=said.body.version,
            name=release.name,
            state=Phase.REFUSED,
            reason=Why.NO_RELEASES,
            attempt=0,
        )
        turn = turn.also(add_report(turn.session, at, "progress", told))
    return turn


def on_release(said: Said, _: Known, session: Session, __: Instant) -> Turn:
    """Leave a file alone that nobody asked for."""
    if not isinstance(said.body, ReleaseFile):
        raise LocalMistake("on_release was given another kind")
    return Turn(session, notes=(Note("release-file-unasked", (("file", said.opened.address.file or ""),)),))


def conclude(outcome: UpgradeOutcome, session: Session, _: Instant) -> Turn:
    """Go on with what slow work brought; none is asked for yet."""
    return Turn(session, notes=(Note("upgrade-outcome", (("outcome", type(outcome).__name__),)),))
