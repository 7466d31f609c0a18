"""How far a device's oscillator runs off: measured between two signed answers, held against the configured bound.

Two intervals of true time and the boot clock between them bound the oscillator's rate from both sides. The configured
bound stands until a measurement proves that it cannot: then what was measured counts, never less.
Source: S3; RFC 10049 (the interval form).

All moments are whole microseconds; a rate in ppm says that the boot clock shows (1 + ppm / 1,000,000) of true time.
"""

from dataclasses import dataclass

MILLION = 1_000_000
MOST_PPM = 5_000
"""No oscillator is believed to be worse: one that is cannot keep time at all."""
LEAST_SPAN_US = 600 * MILLION
FULL_SPAN_US = 86_400 * MILLION


@dataclass(frozen=True, slots=True)
class Sample:
    """What one answer says by itself: true time lay within, both ends included, when the boot clock showed boot_us."""

    earliest_us: int
    latest_us: int
    boot_us: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Between which whole ppm the oscillator's rate was; rounded outwards."""

    low_ppm: int
    high_ppm: int

    @property
    def width_ppm(self) -> int:
        """How little is known of it."""
        return self.high_ppm - self.low_ppm

    @property
    def most_ppm(self) -> int:
        """The larger of both ends, whichever way."""
        return max(abs(self.low_ppm), abs(self.high_ppm))


def rate_between(first: Sample, last: Sample) -> Rate | None:
    """Return what two answers of one boot, with no suspend between them, say; None where they are too close."""
    shown = last.boot_us - first.boot_us
    least, most = last.earliest_us - first.latest_us, last.latest_us - first.earliest_us
    if shown < LEAST_SPAN_US or least <= 0:
        return None
    return Rate(shown * MILLION // most - MILLION, -(-shown * MILLION // least) - MILLION)


def bound_ppm(configured_ppm: int, rate: Rate | None) -> int:
    """Return the bound in force: the configured one, or what was measured where that cannot hold."""
    if rate is None or (rate.low_ppm <= configured_ppm and rate.high_ppm >= -configured_ppm):
        return configured_ppm
    return min(MOST_PPM, rate.most_ppm)


def shortest(age_us: int, drift_ppm: int) -> int:
    """Return the shortest true stretch behind ``age_us``: a fast oscillator shows (1 + drift) of it."""
    return age_us - _share(age_us, drift_ppm, MILLION + drift_ppm)


def longest(age_us: int, drift_ppm: int) -> int:
    """Return the longest true stretch behind ``age_us``: a slow oscillator shows only (1 - drift) of it."""
    return age_us + _share(age_us, drift_ppm, MILLION - drift_ppm)


def _share(age_us: int, part: int, whole: int) -> int:
    """Return age x part / whole, rounded up."""
    return -(-age_us * part // whole)


@dataclass(frozen=True, slots=True)
class Measuring:
    """A measurement under way. since: the answer it counts from. rate: the best there is."""

    since: Sample | None = None
    rate: Rate | None = None

    def taken(self, sample: Sample) -> "Measuring":
        """Return the measurement after one more answer; after a day it counts from the newest."""
        if self.since is None:
            return Measuring(sample, self.rate)
        full = sample.boot_us - self.since.boot_us >= FULL_SPAN_US
        found = rate_between(self.since, sample)
        if found is not None and (found.low_ppm > MOST_PPM or found.high_ppm < -MOST_PPM):
            # No oscillator: one of the two answers was a lie.
            return Measuring(sample)
        if found is None or not (full or self.rate is None or found.width_ppm <= self.rate.width_ppm):
            return self
        return Measuring(sample if full else self.since, found)

    def broken(self) -> "Measuring":
        """Return the measurement after a suspend: what slept was not measured by this oscillator."""
        return Measuring(None, self.rate)


NOTHING_MEASURED = Measuring()
