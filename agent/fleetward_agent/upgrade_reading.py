"""Reading the release repository by name: what to listen for, what counts as absent, what to read anew.

A file that does not come within 30 s is absent, a next root 2 s after the timestamp. A set that does not fit together
is read again for a minute. Bytes are held in memory until the reader has judged them, few and no more than wanted.
Source: protocol section 5 "Releases", 2; the reader's part is ``release_reader``.
"""

from collections.abc import Iterator
from dataclasses import replace

from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.session import Session
from fleetward_agent.turn import Known, Note, Said, Turn
from fleetward_agent.upgrade_begin import to_be_agreed
from fleetward_agent.upgrade_effects import ReadRelease, ReleaseRead
from fleetward_agent.upgrade_moves import moved, put
from fleetward_agent.upgrade_state import Asked, Reading, Upgrade
from fleetward_agent.walk import Stage
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.moment import to_ms
from fleetward_schemas.strict import b64url_decode
from fleetward_schemas.topics import release as topic_of
from fleetward_schemas.upgrade import ABSENT_S, INCONSISTENT_S, Event, Phase, ReleaseFile, Why, may_install

ROOT_ABSENT_S = 2
READ_AGAIN_S = 5
LONGEST_S = 600
"""All in all: a repository that comes file by file, each in time, does not keep a device reading for ever."""
MOST_FILES = 16
MOST_BYTES = 256 * 1024
MOST_ROUNDS = 300
TIMESTAMP = "timestamp"
_REFUSALS = {Why.NO_RELEASES, Why.NOT_RELEASED, Why.MISMATCH, Why.NO_INSTALLER, Why.DOWNGRADE}


def wanted(session: Session, boot_us: int) -> Upgrade | None:
    """Return the upgrade to read the repository for now."""
    software, there = session.kept.software, session.stage is Stage.WORKING and session.connected
    if not there or session.retiring or software.underway is not None or not session.clock.synced(boot_us):
        return None
    now_ms = to_ms(session.clock.now(boot_us))
    ready = (one for one in software.upgrades if one.phase is Phase.ASSIGNED and one.again_ms <= now_ms)
    return next(ready, None) or to_be_agreed(session, boot_us)


def topics(session: Session) -> frozenset[str]:
    """Return what to listen to beside the line's own subscriptions."""
    reading = session.work.reading
    return frozenset() if reading is None else frozenset(topic_of(one) for one in reading.missing)


def on_release(said: Said, _: Known, session: Session, at: Instant) -> Turn:
    """Keep one file that was asked for; leave any other alone.

    Raises:
        Refused: ``malformed``: its bytes are not canonical base64url.
    """
    body, file = said.body, said.opened.address.file or ""
    if not isinstance(body, ReleaseFile):
        raise LocalMistake("on_release was given another kind")
    reading = session.work.reading
    if reading is None or file not in reading.missing:
        return Turn(session, notes=(Note("release-file-unasked", (("file", file),)),))
    raw = b64url_decode(body.metadata.encode())
    if sum(map(len, reading.files.values())) + len(raw) > MOST_BYTES:
        raise Refused(Code.TOO_LARGE, f"{file}: with it over {MOST_BYTES} bytes of the repository are held")
    timestamp_us = at.boot_us if file == TIMESTAMP else reading.timestamp_us
    return Turn(_with(session, replace(reading, files={**reading.files, file: raw}, timestamp_us=timestamp_us)))


def step(session: Session, at: Instant) -> Turn:
    """Begin to read, note what is absent, and have what came judged once nothing is missing."""
    upgrade, reading = wanted(session, at.boot_us), session.work.reading
    if upgrade is None:
        return Turn(_with(session, None) if reading is not None else session)
    if not may_install(upgrade.counter, session.kept.software.floor(upgrade.name).counter):
        return _refused(session, at, upgrade, Why.DOWNGRADE)
    if reading is None or reading.identity != upgrade.identity:
        reading = Reading(upgrade.identity, at.boot_us)
    if session.work.asked is not None or at.boot_us < reading.pause_us:
        return Turn(_with(session, reading))
    if at.boot_us - reading.begun_us >= LONGEST_S * SECOND_US:
        return moved(session, at, upgrade, Event.BROKEN, Why.METADATA)
    late = {file for file in reading.missing if _absent_us(reading, file) <= at.boot_us}
    reading = replace(reading, absent=reading.absent | late)
    session = _with(session, reading)
    return Turn(session) if reading.missing else _judge(session, at, upgrade, reading)


def _judge(session: Session, at: Instant, upgrade: Upgrade, reading: Reading) -> Turn:
    latest_us = session.clock.latest_at(at.boot_us)
    effect = ReadRelease(upgrade.release, tuple(reading.files.items()), reading.absent, latest_us)
    work = replace(session.work, asked=Asked(upgrade.identity, upgrade.phase))
    return Turn(replace(session, work=work), effects=(effect,))


def on_read(outcome: ReleaseRead, session: Session, at: Instant, upgrade: Upgrade) -> Turn:
    """Listen for what is wanted next, read anew what does not fit together, or go on."""
    reading = session.work.reading
    if outcome.why in _REFUSALS:
        return _refused(session, at, upgrade, outcome.why)
    if outcome.why is not None and not outcome.again:
        return moved(session, at, upgrade, Event.BROKEN, outcome.why)
    if reading is None or reading.identity != upgrade.identity:
        return Turn(session)
    if outcome.why is not None:
        return _anew(session, at, upgrade, reading)
    if not outcome.wants:
        return _agreed(session, at, upgrade, outcome.version)
    return _next(session, at, upgrade, reading, outcome.wants)


def _agreed(session: Session, at: Instant, upgrade: Upgrade, version: str) -> Turn:
    now_ms = to_ms(session.clock.now(at.boot_us))
    if upgrade.phase is Phase.STAGED:
        return Turn(_with(put(session, replace(upgrade, agreed_ms=now_ms)), None))
    return moved(session, at, upgrade, Event.AGREED, version=version, agreed_ms=now_ms)


def _refused(session: Session, at: Instant, upgrade: Upgrade, why: Why | None) -> Turn:
    """What is staged already fails first, and is refused when it is looked at again."""
    return moved(session, at, upgrade, Event.BROKEN if upgrade.phase is Phase.STAGED else Event.DISAGREED, why)


def _next(session: Session, at: Instant, upgrade: Upgrade, reading: Reading, wants: tuple[str, ...]) -> Turn:
    fresh = [file for file in wants if file not in reading.files and file not in reading.absent]
    if not fresh or reading.rounds >= MOST_ROUNDS:
        return _anew(session, at, upgrade, reading)
    # A root that was believed is on disk: many in a row need not be held together.
    files = {file: raw for file, raw in reading.files.items() if not file.endswith(".root")}
    if len(files) + len(fresh) > MOST_FILES:
        return _anew(session, at, upgrade, reading)
    asked = {file: since for file, since in reading.asked.items() if file in files or file in reading.absent}
    asked |= dict.fromkeys(fresh, at.boot_us)
    return Turn(_with(session, replace(reading, files=files, asked=asked, rounds=reading.rounds + 1)))


def _anew(session: Session, at: Instant, upgrade: Upgrade, reading: Reading) -> Turn:
    since = at.boot_us if reading.odd_us is None else reading.odd_us
    if at.boot_us - since >= INCONSISTENT_S * SECOND_US:
        return moved(session, at, upgrade, Event.BROKEN, Why.METADATA)
    again = Reading(reading.identity, reading.begun_us, odd_us=since, pause_us=at.after_s(READ_AGAIN_S))
    return Turn(_with(session, again), notes=(Note("release-odd", (("software", upgrade.name),)),))


def _absent_us(reading: Reading, file: str) -> int:
    """Return when a file that has not come counts as absent."""
    asked_us = reading.asked[file]
    by_clock = asked_us + ABSENT_S * SECOND_US
    if not file.endswith(".root") or reading.timestamp_us is None:
        return by_clock
    return min(by_clock, max(asked_us, reading.timestamp_us) + ROOT_ABSENT_S * SECOND_US)


def _with(session: Session, reading: Reading | None) -> Session:
    return replace(session, work=replace(session.work, reading=reading))


def moments(session: Session, boot_us: int) -> Iterator[int]:
    """Return when reading has something to do: it begins or is of no more use, a file is late, all has come."""
    reading, upgrade = session.work.reading, wanted(session, boot_us)
    if upgrade is None:
        if reading is not None:
            yield boot_us
    elif session.work.asked is None:
        if reading is None or reading.identity != upgrade.identity:
            yield boot_us
        elif boot_us < reading.pause_us:
            yield reading.pause_us
        else:
            yield from (_absent_us(reading, file) for file in reading.missing)
            if not reading.missing:
                yield boot_us
