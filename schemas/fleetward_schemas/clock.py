"""Trusted time: an interval [earliest, latest] that only signed answers move; the operating system's clock never does.

The true time lies inside the interval always. Its ends drift apart by the local oscillator's bound; a nonce-bound
answer is intersected with it; a beacon may only raise ``earliest``. A reboot keeps no more than the floor, a suspend
widens it by what the hardware clock may err. When answers contradict it, ``earliest`` waits for them to catch up.
Source: S3, protocol section 5 "Time"; the interval form is Roughtime's (RFC 10049), the floor Uptane's.

All moments here are whole microseconds: ``*_us`` of true time since 1970, ``boot_us`` of CLOCK_BOOTTIME.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from fleetward_schemas import moment
from fleetward_schemas.drift import MILLION, NOTHING_MEASURED, Measuring, Rate, Sample, bound_ppm, longest, shortest
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.shapes import Digest, DownBody, Moment, UpBody

DRIFT_PPM = 200
MAX_DELAY_US = 5_000_000
CARRIED_DELAY_US = 30 * 24 * 3600 * 1_000_000
"""For an answer that is carried by hand: as true as any, and the interval as wide as the way was long."""
SYNCED_WIDTH_US = 20_000_000
SIGNER_AGE = timedelta(days=7)
MILLISECOND_US = 1000
# A hardware clock tells a suspend's length in whole seconds, read at both of its ends.
SLEEP_ERROR_US = 1_000_000
# Less between the two boot clocks is how long it took to read them.
SLEEP_LEAST_US = 100_000
FAR_FUTURE_US = 253402300799_000_000
"""The end of the year 9999: ``latest`` while nothing is known."""


class TimeQuestion(UpBody, frozen=True):
    """A device asks; the answer counts once, for this nonce."""

    nonce: Digest


class TimeAnswer(DownBody, frozen=True):
    """received is rounded up and sent down to the millisecond, so that rounding can only widen the interval.

    radiusMs: bound of the server's own error.
    """

    nonce: Digest
    received: Moment
    sent: Moment
    radiusMs: Annotated[int, Meta(ge=0, le=60_000)]  # noqa: N815


class Beacon(DownBody, frozen=True):
    """Empty: the envelope's ``timestamp`` is the message, here the earliest end of the server's interval."""


@dataclass(frozen=True, slots=True)
class Signer:
    """What the clock asks of the chain that signed: the moments it is valid between, and its leaf's notBefore."""

    not_before: datetime
    not_after: datetime
    leaf_not_before: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """An outstanding nonce, when it was sent, and how long its answer may have been on the way."""

    nonce: str
    boot_us: int
    most_delay_us: int = MAX_DELAY_US


@dataclass(frozen=True, slots=True)
class Clock:
    """What a device knows of the time.

    earliest_us, latest_us: the interval as it stood at ``boot_us``; latest is FAR_FUTURE_US while unsynced.
    signer_us: newest notBefore of an accepted server signing leaf. question: the one outstanding, or None.
    drift_ppm: as configured; ``bound_ppm`` is in force. slept_us: of all suspends so far. held: earliest stands still.
    """

    earliest_us: int
    latest_us: int
    boot_us: int
    signer_us: int = 0
    question: Question | None = None
    drift_ppm: int = DRIFT_PPM
    measuring: Measuring = NOTHING_MEASURED
    slept_us: int = 0
    held: bool = False

    @property
    def bound_ppm(self) -> int:
        """How far our oscillator may run off: as configured, or more where more was measured."""
        return bound_ppm(self.drift_ppm, self.measuring.rate)

    def earliest_at(self, boot_us: int) -> int:
        """Return the earliest true time possible now: our oscillator may run fast."""
        return self.earliest_us + (0 if self.held else shortest(max(0, boot_us - self.boot_us), self.bound_ppm))

    def latest_at(self, boot_us: int) -> int:
        """Return the latest true time possible now: our oscillator may run slow."""
        return min(FAR_FUTURE_US, self.latest_us + longest(max(0, boot_us - self.boot_us), self.bound_ppm))

    def wide_at(self, width_us: int) -> int:
        """Return the boot clock from which the interval is at least ``width_us`` wide, or within 1 % of it."""
        left_us = width_us - (self.latest_us - self.earliest_us)
        return self.boot_us + max(0, left_us) * MILLION // (2 * self.bound_ppm + 1)

    def width_at(self, boot_us: int) -> int:
        """Return the interval's width in microseconds."""
        return self.latest_at(boot_us) - self.earliest_at(boot_us)

    def synced(self, boot_us: int) -> bool:
        """Say whether the interval is at most 20 s wide; wider, a device sends only ``time``."""
        return self.width_at(boot_us) <= SYNCED_WIDTH_US

    def now(self, boot_us: int) -> datetime:
        """Return the middle of the interval, or the floor while unsynced."""
        earliest = self.earliest_at(boot_us)
        us = earliest if not self.synced(boot_us) else (earliest + self.latest_at(boot_us)) // 2
        return moment.EPOCH + timedelta(microseconds=us)

    def latest(self, boot_us: int) -> datetime:
        """Return the latest end, at which expiry is judged."""
        return moment.EPOCH + timedelta(microseconds=self.latest_at(boot_us))


def start(floor: datetime, boot_us: int, *, drift_ppm: int = DRIFT_PPM) -> Clock:
    """Return the clock of a device that knows nothing but a floor: saved earliest, build time or a notBefore."""
    return Clock(_us(floor), FAR_FUTURE_US, boot_us, drift_ppm=drift_ppm)


def ask(clock: Clock, nonce: str, boot_us: int) -> Clock:
    """Return the clock with ``nonce`` outstanding; an older question can no longer be answered."""
    return replace(clock, question=Question(nonce, boot_us))


def accept_answer(clock: Clock, answer: TimeAnswer, signer: Signer, boot_us: int) -> Clock:
    """Return the clock after one signed answer, received at ``boot_us``.

    Raises:
        Refused: ``bad-nonce`` not the outstanding nonce; ``stale`` a delay below 0 or over the question's (5000 ms,
            30 days for one that is carried); ``wrong-server`` a
            signer not valid at ``sent`` or more than 7 days older than the newest seen; ``clock-jump`` when the answer
            cannot be true together with what is known.
    """
    question = clock.question
    if question is None or question.nonce != answer.nonce:
        raise Refused(Code.BAD_NONCE, "no such question is outstanding")
    sample = _sample(question, answer, boot_us, clock.bound_ppm)
    clock = _trust(clock, signer, moment.parse(answer.sent), boot_us)
    earliest, known = max(clock.earliest_at(boot_us), sample.earliest_us), clock.latest_at(boot_us)
    if (early_us := earliest - sample.latest_us) > 0:
        raise Refused(Code.CLOCK_JUMP, f"answer ends {early_us // MILLISECOND_US} ms before what is known")
    # Where the answer lies wholly above what was known, it stands alone: an oscillator that is worse than its bound
    # must not shut the truth out.
    latest = min(known, sample.latest_us) if sample.earliest_us <= known else sample.latest_us
    # Over a long way the oscillator is part of the sample, and cannot be measured by it.
    quick = question.most_delay_us <= MAX_DELAY_US
    measuring = clock.measuring.taken(sample) if quick else clock.measuring
    told = replace(clock, question=None, measuring=measuring, held=False)
    return replace(told, earliest_us=earliest, latest_us=latest, boot_us=boot_us)


def _sample(question: Question, answer: TimeAnswer, boot_us: int, drift_ppm: int) -> Sample:
    """Return what the answer says by itself."""
    elapsed = boot_us - question.boot_us
    sent_us, received_us = _us(moment.parse(answer.sent)), _us(moment.parse(answer.received))
    delay, most = elapsed - (sent_us - received_us), question.most_delay_us
    if not 0 <= delay <= most:
        raise Refused(Code.STALE, f"delay {delay // MILLISECOND_US} ms: 0..{most // MILLISECOND_US} ms count")
    radius = answer.radiusMs * MILLISECOND_US
    # received + elapsed is sent + delay; elapsed was measured by our oscillator, which may run slow.
    return Sample(sent_us - radius, received_us + longest(elapsed, drift_ppm) + radius, boot_us)


def hold(clock: Clock, boot_us: int) -> Clock:
    """Return the clock when good answers say again and again that it is earlier than we know: one of us was lied to.

    It is unsynced, and ``earliest`` waits until an answer reaches it: never backwards, and not ahead for ever.
    """
    return replace(clock, earliest_us=clock.earliest_at(boot_us), latest_us=FAR_FUTURE_US, boot_us=boot_us, held=True)


def wake(clock: Clock, boot_us: int, slept_us: int) -> Clock:
    """Return the clock when the host may have been suspended; the very same when it was not.

    slept_us: CLOCK_BOOTTIME less CLOCK_MONOTONIC. An open question is given up: its delay was not measured.
    """
    more = slept_us - clock.slept_us
    if more < SLEEP_LEAST_US:
        return clock
    earliest = clock.earliest_at(boot_us)
    earliest -= 0 if clock.held else min(SLEEP_ERROR_US, shortest(more, clock.bound_ppm))
    latest = min(FAR_FUTURE_US, clock.latest_at(boot_us) + SLEEP_ERROR_US)
    awake = replace(clock, question=None, measuring=clock.measuring.broken(), slept_us=slept_us)
    return replace(awake, earliest_us=earliest, latest_us=latest, boot_us=boot_us)


def accept_beacon(clock: Clock, timestamp: datetime, signer: Signer, boot_us: int) -> Clock:
    """Return the clock after one signed beacon: a floor, never a setting.

    timestamp: the earliest end of the server's own interval, so that true time was never below it.
    A beacon above ``latest`` makes the clock unsynced: one of the two is wrong, and only an answer can tell.

    Raises:
        Refused: ``wrong-server`` as for answers.
    """
    clock = _trust(clock, signer, timestamp, boot_us)
    if _us(timestamp) > clock.latest_at(boot_us):
        return replace(clock, earliest_us=clock.earliest_at(boot_us), latest_us=FAR_FUTURE_US, boot_us=boot_us)
    return _raise(clock, _us(timestamp), boot_us)


def accept_signer(clock: Clock, leaf_not_before: datetime) -> Clock:
    """Return the clock after a server leaf was accepted: its notBefore is a floor, and older leaves die by it.

    Raises:
        Refused: ``wrong-server``: more than 7 days older than the newest leaf seen. Clause C6.
    """
    leaf_us = _us(leaf_not_before)
    if leaf_us < clock.signer_us - SIGNER_AGE // timedelta(microseconds=1):
        raise Refused(Code.WRONG_SERVER, "the signing certificate is over 7 days older than the newest one seen")
    return replace(clock, signer_us=max(clock.signer_us, leaf_us))


def _trust(clock: Clock, signer: Signer, sent: datetime, boot_us: int) -> Clock:
    # So a stolen online key moves time at most to its own notAfter.
    if not signer.not_before <= sent <= signer.not_after:
        raise Refused(Code.WRONG_SERVER, "the signing chain is not valid at the moment it states")
    clock = accept_signer(clock, signer.leaf_not_before)
    return _raise(clock, clock.signer_us, boot_us)


def _raise(clock: Clock, floor_us: int, boot_us: int) -> Clock:
    """Return the clock with ``floor_us`` as earliest time at ``boot_us``; unsynced when its latest was below that.

    The clock is anchored anew: put on an older anchor, the floor would grow by the anchor's age.
    """
    if floor_us <= clock.earliest_at(boot_us):
        return clock
    latest = clock.latest_at(boot_us)
    return replace(
        clock, earliest_us=floor_us, latest_us=latest if floor_us <= latest else FAR_FUTURE_US, boot_us=boot_us
    )


def _us(at: datetime) -> int:
    return (at - moment.EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Saved:
    """What survives on disk. boot_id: the kernel's; an anchor counts only in the boot it was taken in."""

    earliest_us: int
    latest_us: int
    boot_us: int
    signer_us: int
    boot_id: str
    slept_us: int = 0
    held: bool = False
    rate: Rate | None = None


def save(clock: Clock, boot_id: str, boot_us: int) -> Saved:
    """Return what to write down at ``boot_us``; earliest is a floor for any later boot."""
    ends = (clock.earliest_at(boot_us), clock.latest_at(boot_us))
    return Saved(*ends, boot_us, clock.signer_us, boot_id, clock.slept_us, clock.held, clock.measuring.rate)


def restore(
    saved: Saved | None, built: datetime, boot_id: str, boot_us: int, *, drift_ppm: int = DRIFT_PPM, slept_us: int = 0
) -> Clock:
    """Return the clock after a start: whole within the same boot, the floor alone after a reboot.

    built: when this software was built, a floor of its own. slept_us: as for ``wake``.
    """
    if saved is None:
        return replace(start(built, boot_us, drift_ppm=drift_ppm), slept_us=slept_us)
    floor = max(saved.earliest_us, saved.signer_us, _us(built))
    known = Clock(
        floor, FAR_FUTURE_US, boot_us, saved.signer_us, None, drift_ppm, Measuring(None, saved.rate), slept_us
    )
    if saved.boot_id != boot_id or saved.boot_us > boot_us:
        return known
    ends = replace(known, earliest_us=saved.earliest_us, latest_us=saved.latest_us, boot_us=saved.boot_us)
    kept = replace(ends, slept_us=saved.slept_us, held=saved.held)
    return _raise(wake(kept, boot_us, slept_us), floor, boot_us)
