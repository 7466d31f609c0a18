"""The clock's promise, against an unkind world: true time is inside the interval, always, and the interval is narrow.

One device and one server live through a random script: asymmetric delays, losses, copies, late and replayed words,
suspends, restarts, reboots, an oscillator up to 200 ppm off, a server wrong by as much as it admits. The clock's own
functions are an argument, so that a planted mistake can take their place and be found.

The oscillator shows (1 + drift) of true time, and the device acts on its whole microseconds.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_schemas import clock, moment
from fleetward_schemas.clock import Question, Signer, TimeAnswer
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.strict import b64url

MS, SECOND = 1000, 1_000_000
HOUR = 3600 * SECOND
WEEK = timedelta(days=7)
STARTS = ("1970-01-01T00:00:00.000Z", "2026-03-01T12:00:00.000Z", "2099-12-01T00:00:00.000Z")
FOUND_WITHIN = 60
"""Runs in which every planted mistake is found; the seeds are fixed."""


class Broken(Exception):  # noqa: N818 - says what became of the promise
    """The clock did not keep its promise."""


@dataclass(frozen=True)
class Functions:
    """What is under test."""

    accept_answer: object = clock.accept_answer
    accept_beacon: object = clock.accept_beacon
    save: object = clock.save
    restore: object = clock.restore


@dataclass
class World:
    """True time, one device, one server, and the wires between. elapsed: true microseconds since the start.

    wires: (arrival, word) pairs; heard: words an eavesdropper kept. told: earliest as last shown, per boot.
    bound: (width right after an answer, boot_us of its question), None while nothing is promised.
    """

    functions: Functions
    seed: int
    start: str = STARTS[1]
    drift_ppm: int = 0
    radius_ms: int = 250
    elapsed: Fraction = Fraction(0)
    booted: Fraction = Fraction(0)
    boots: int = 0
    wires: list = field(default_factory=list)
    heard: list = field(default_factory=list)
    told: int = 0
    bound: tuple | None = None
    accepted: int = 0

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        self.start_us = moment.to_ms(moment.parse(self.start)) * MS
        self.restart_server()
        behind = timedelta(days=self.chance.choice([0, 1, 4000]))
        self.built = max(moment.parse(self.start) - behind, moment.EPOCH)
        self.clock = self.functions.restore(None, self.built, "boot 0", 0)
        self.saved, self.saved_earliest = None, 0

    def boot_us(self):
        return floor((self.elapsed - self.booted) * self.rate())

    def rate(self):
        return 1 + Fraction(self.drift_ppm, SECOND)

    def run(self, steps):
        actions = [self.wait, self.wait, self.ask, self.ask, self.ask, self.beacon, self.replay, self.replay]
        actions += [self.suspend, self.save, self.restart, self.reboot, self.restart_server]
        for _ in range(steps):
            self.chance.choice(actions)()
            self.check()

    def move_to(self, when):
        """Go on to the device's next whole microsecond at or after ``when``."""
        self.elapsed = self.booted + ceil((when - self.booted) * self.rate()) / self.rate()

    def wait(self):
        self.live(self.chance.randint(0, self.chance.choice([3 * SECOND, 3 * SECOND, 2 * HOUR])))

    def live(self, us):
        end = self.elapsed + us
        while due := sorted((wire for wire in self.wires if wire[0] <= end), key=lambda wire: wire[0])[:1]:
            self.wires.remove(due[0])
            self.move_to(max(self.elapsed, due[0][0]))
            self.deliver(*due[0][1])
            self.check()
        self.move_to(end)

    def suspend(self):
        """Sleep: what came meanwhile is read late."""
        self.move_to(self.elapsed + self.chance.randint(SECOND, 72 * HOUR))
        self.live(0)

    def send(self, word, least=0):
        """Put a word on the wire: lost, once or twice, each copy up to 2 s late."""
        for _ in range(self.chance.choice([0, 1, 1, 1, 2])):
            late = self.chance.choice([0, self.chance.randint(0, 2 * SECOND)])
            self.wires.append((self.elapsed + least + late, word))

    def replay(self):
        if self.heard:
            self.deliver(*self.chance.choice(self.heard))

    def deliver(self, kind, *word):
        {"question": self.answer, "answer": self.hear_answer, "beacon": self.hear_beacon}[kind](*word)

    def restart_server(self):
        begin = moment.from_ms(floor(self.start_us + self.elapsed) // MS) - timedelta(seconds=60)
        self.signer = Signer(begin, begin + WEEK, begin)

    def server_error_us(self):
        return self.chance.choice([-1, 1, Fraction(self.chance.randint(-100, 100), 100)]) * self.radius_ms * MS

    def server_ms(self, rounding, error, later=0):
        return moment.show(moment.from_ms(rounding((self.start_us + self.elapsed + later + error) / MS)))

    def answer(self, nonce):
        if moment.from_ms(floor((self.start_us + self.elapsed) / MS)) > self.signer.not_after - timedelta(days=1):
            self.restart_server()
        error, busy = self.server_error_us(), self.chance.choice([0, self.chance.randint(0, 50 * MS)])
        received, sent = self.server_ms(ceil, error), self.server_ms(floor, error, busy)
        word = TimeAnswer(nonce=nonce, received=received, sent=sent, radiusMs=self.radius_ms)
        self.send(("answer", word, self.signer), busy)

    def beacon(self):
        """Tell everybody the earliest end of the server's own interval."""
        earliest = self.server_ms(floor, self.server_error_us() - self.radius_ms * MS)
        self.send(("beacon", moment.parse(earliest), self.signer))

    def ask(self):
        nonce = b64url(self.chance.randbytes(32))
        self.clock = clock.ask(self.clock, nonce, self.boot_us())
        self.send(("question", nonce))
        self.live(self.chance.randint(0, 4 * SECOND))

    def hear_answer(self, answer, signer):
        self.heard.append(("answer", answer, signer))
        asked, now = self.clock.question, self.boot_us()
        mine = asked is not None and asked.nonce == answer.nonce
        passed = now - asked.boot_us if mine else 0
        delay = passed - (moment.to_ms(moment.parse(answer.sent)) - moment.to_ms(moment.parse(answer.received))) * MS
        try:
            self.clock = self.functions.accept_answer(self.clock, answer, signer, now)
        except Refused:
            self.expect(not mine or not 0 <= delay <= 5 * SECOND, "an honest answer was refused")
            return
        self.accepted += 1
        self.bound = (delay + 2 * answer.radiusMs * MS, now - passed)

    def hear_beacon(self, timestamp, signer):
        self.heard.append(("beacon", timestamp, signer))
        try:
            self.clock = self.functions.accept_beacon(self.clock, timestamp, signer, self.boot_us())
        except Refused as refusal:
            self.expect(refusal.code is Code.WRONG_SERVER, "an honest beacon was refused")

    def save(self):
        self.saved = self.functions.save(self.clock, f"boot {self.boots}", self.boot_us())
        self.saved_earliest = self.clock.earliest_at(self.boot_us())

    def restart(self):
        """Start the agent again within one boot: nothing is lost but the question."""
        self.save()
        self.clock = self.functions.restore(self.saved, self.built, f"boot {self.boots}", self.boot_us())

    def reboot(self):
        """Start the host again, perhaps without a save; the floor is all that may be known."""
        self.boots += 1
        self.booted = self.elapsed
        self.clock = self.functions.restore(self.saved, self.built, f"boot {self.boots}", 0)
        self.bound, self.told = None, self.saved_earliest

    def check(self):
        now, true_us = self.boot_us(), self.start_us + self.elapsed
        earliest, latest = self.clock.earliest_at(now), self.clock.latest_at(now)
        self.expect(earliest <= true_us <= latest, "true time is outside")
        self.expect(earliest >= self.told, "earliest ran backwards")
        self.told = earliest
        if self.bound is not None:
            width, asked_us = self.bound
            drift = Fraction(2 * clock.DRIFT_PPM, SECOND) * (now - asked_us)
            self.expect(latest - earliest <= width + drift + MS, "wider than promised")

    def expect(self, held, promise):
        if not held:
            raise Broken(promise)


def live(functions, seed, **about):
    world = World(functions, seed, **about)
    world.run(60)
    return world


def live_all(functions):
    for seed in range(FOUND_WITHIN):
        live(functions, seed, drift_ppm=200 if seed % 2 else -200)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(STARTS),
    st.sampled_from([-200, 200]) | st.integers(-200, 200),
    st.sampled_from([0, 1, 250, 5000]),
)
def test_true_time_is_always_inside_a_narrow_interval_that_never_runs_backwards(seed, start, drift_ppm, radius_ms):
    live(Functions(), seed, start=start, drift_ppm=drift_ppm, radius_ms=radius_ms)


def test_the_world_is_kind_enough_that_answers_count():
    worlds = [live(Functions(), seed) for seed in range(20)]
    assert sum(world.accepted for world in worlds) > 100
    assert sum(world.boots for world in worlds) > 20


def a_millisecond_too_early(held, answer, signer, boot_us):
    after = clock.accept_answer(held, answer, signer, boot_us)
    return replace(after, earliest_us=after.earliest_us + MS)


def any_answer_will_do(held, answer, signer, boot_us):
    question = held.question or Question("", boot_us)
    return clock.accept_answer(
        replace(held, question=Question(answer.nonce, question.boot_us)), answer, signer, boot_us
    )


def a_beacon_sets(held, timestamp, signer, boot_us):
    clock.accept_beacon(held, timestamp, signer, boot_us)
    at_us = moment.to_ms(timestamp) * MS
    return replace(held, earliest_us=at_us, latest_us=at_us, boot_us=boot_us)


def a_beacon_from_the_middle(held, timestamp, signer, boot_us):
    return clock.accept_beacon(held, timestamp + timedelta(milliseconds=250), signer, boot_us)


def no_floor_is_saved(held, boot_id, boot_us):
    return replace(clock.save(held, boot_id, boot_us), earliest_us=0, signer_us=0)


def the_interval_survives_a_reboot(saved, built, boot_id, boot_us):
    return clock.restore(saved and replace(saved, boot_id=boot_id, boot_us=boot_us), built, boot_id, boot_us)


def no_upper_end(held, answer, signer, boot_us):
    return replace(clock.accept_answer(held, answer, signer, boot_us), latest_us=clock.FAR_FUTURE_US)


def a_floor_on_an_old_anchor(held, answer, signer, boot_us):
    floor_us = moment.to_ms(signer.leaf_not_before) * MS
    return clock.accept_answer(replace(held, earliest_us=max(held.earliest_us, floor_us)), answer, signer, boot_us)


def no_drift(held, answer, signer, boot_us):
    return replace(clock.accept_answer(held, answer, signer, boot_us), drift_ppm=0)


OUTSIDE, BACKWARDS, WIDE, REFUSED = "outside", "backwards", "wider", "answer was refused"
MISTAKES = {
    "a millisecond too early": (Functions(accept_answer=a_millisecond_too_early), OUTSIDE),
    "no nonce check": (Functions(accept_answer=any_answer_will_do), OUTSIDE),
    "a beacon that sets the clock": (Functions(accept_beacon=a_beacon_sets), OUTSIDE),
    "a beacon stamped in the middle": (Functions(accept_beacon=a_beacon_from_the_middle), f"{OUTSIDE}|{WIDE}"),
    "no floor at reboot": (Functions(save=no_floor_is_saved), BACKWARDS),
    "an interval that survives a reboot": (Functions(restore=the_interval_survives_a_reboot), OUTSIDE),
    "an infinite interval": (Functions(accept_answer=no_upper_end), WIDE),
    "a floor on an old anchor": (Functions(accept_answer=a_floor_on_an_old_anchor), REFUSED),
    "an oscillator taken for perfect": (Functions(accept_answer=no_drift), OUTSIDE),
}


@pytest.mark.parametrize(("mistake", "promise"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_planted_mistake_is_found(mistake, promise):
    with pytest.raises(Broken, match=promise):
        live_all(mistake)


def test_without_a_mistake_the_same_seeds_find_nothing():
    live_all(Functions())
