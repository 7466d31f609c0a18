"""What a device shall run, as the server assigns it: written down whole before anything is done.

A newer assignment replaces the one before, but waits while software is between two versions.
Source: S7; protocol section 5 "Releases", 4.
"""

from dataclasses import replace

from fleetward_agent.instant import Instant
from fleetward_agent.session import Session
from fleetward_agent.turn import Known, Note, Said, Turn
from fleetward_agent.upgrade_moves import tell_all, with_software
from fleetward_agent.upgrade_state import Software, Upgrade
from fleetward_schemas import moment
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.strict import read_object
from fleetward_schemas.upgrade import AHEAD_MS, MAX_RELEASES, Assignment, Phase, Release

_GOES_ON = {Phase.COMMITTED, Phase.LOCKED}


def on_assignment(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Take an assignment, or tell again how far the one before got.

    Raises:
        Refused: ``replayed``: older than the last one taken; ``stale``: from a future that is not near.
    """
    body = said.body
    if not isinstance(body, Assignment):
        raise LocalMistake("on_assignment was given another kind")
    if session.retiring:
        return Turn(session)
    software = session.kept.software
    last = max(software.version, software.waiting_version)
    latest_ms = moment.to_ms(session.clock.latest(at.boot_us))
    # C8: an assignment taken from an old tape, or from a server that dates ahead to outlast all later ones.
    if body.version > latest_ms + AHEAD_MS:
        raise Refused(Code.STALE, f"version {body.version}: at most {latest_ms + AHEAD_MS} now")
    if body.version < last:
        raise Refused(Code.REPLAYED, f"version {body.version}: {last} was taken")
    if body.version == last:
        return tell_all(session, at)
    if software.underway is not None:
        waiting = replace(software, waiting=body.json(), waiting_version=body.version)
        return Turn(with_software(session, waiting), notes=(Note("assignment-waits", (("version", body.version),)),))
    return _taken(session, at, body)


def step(session: Session, at: Instant) -> Turn:
    """Take the assignment that waited, once nothing is between two versions."""
    if not due(session):
        return Turn(session)
    return _taken(session, at, Assignment.read(read_object(session.kept.software.waiting.encode())))


def due(session: Session) -> bool:
    """Say whether an assignment that waited can be taken now."""
    software = session.kept.software
    return bool(software.waiting) and software.underway is None and not session.retiring


def _taken(session: Session, at: Instant, body: Assignment) -> Turn:
    before = session.kept.software
    known = {one.identity: one for one in (*before.left, *before.upgrades)}
    upgrades = tuple(_upgrade(release, known, before) for release in body.releases)
    left = [one for one in known.values() if one.identity not in {new.identity for new in upgrades}]
    tried = [one for one in left if one.attempts and one.phase is not Phase.COMMITTED]
    window = body.window
    software = replace(
        before,
        version=body.version,
        from_ms=0 if window is None else moment.to_ms(moment.parse(window.from_)),
        to_ms=0 if window is None else moment.to_ms(moment.parse(window.to)),
        upgrades=upgrades,
        left=tuple(tried[-MAX_RELEASES:]),
        waiting="",
        waiting_version=0,
    )
    fields = (("version", body.version), ("releases", len(upgrades)))
    session = with_software(session, software)
    turn = Turn(replace(session, work=replace(session.work, reading=None)), notes=(Note("assignment", fields),))
    return turn.also(tell_all(turn.session, at))


def _upgrade(release: Release, known: dict[tuple[str, str, int, str], Upgrade], software: Software) -> Upgrade:
    """Return a release as an upgrade: one that stays the same keeps its state and its attempts."""
    made = Upgrade(
        release.name, release.target, release.counter, release.hashes.sha256, release.length, str(release.url)
    )
    before = known.get(made.identity)
    floor = software.floor(release.name)
    if before is None:
        runs = (floor.counter, floor.sha256) == (made.counter, made.sha256)
        return replace(made, phase=Phase.COMMITTED, version=floor.version) if runs else made
    same = before.name in {one.name for one in software.upgrades if one.identity == made.identity}
    stays = before.phase in _GOES_ON or (same and before.phase is not Phase.REFUSED and before.length == made.length)
    before = replace(before, url=made.url, length=made.length)
    # Refused by an older assignment, or dropped by one in between: looked at anew, its attempts still count.
    return before if stays else replace(before, phase=Phase.ASSIGNED, why=None)
