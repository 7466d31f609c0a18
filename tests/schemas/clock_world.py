"""One device, one server and the wires between them, living through a random script, with true time known exactly.

Asymmetric delays, losses, copies, late and replayed words, suspends told in whole seconds, restarts, reboots, an
oscillator up to 200 ppm off, a server wrong by as much as it admits; and, where asked for, a thief of an online key.
The clock's own functions are an argument, so that a planted mistake can take their place and be found.

The oscillator shows (1 + drift) of true time, and the device acts on its whole microseconds.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from math import ceil, floor

from fleetward_schemas import clock, moment
from fleetward_schemas.clock import Signer, TimeAnswer
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.strict import b64url

MS, SECOND = 1000, 1_000_000
HOUR = 3600 * SECOND
WEEK = timedelta(days=7)
STARTS = ("1970-01-01T00:00:00.000Z", "2026-03-01T12:00:00.000Z", "2099-12-01T00:00:00.000Z")
SHIFTS_MS = (0, 100, 5_000, 3_600_000, 3 * 86_400_000, 20 * 86_400_000, 3_000 * 86_400_000)
"""How far a thief lies."""


class Broken(Exception):  # noqa: N818 - says what became of the promise
    """The clock did not keep its promise."""


@dataclass(frozen=True)
class Functions:
    """What is under test."""

    accept_answer: object = clock.accept_answer
    accept_beacon: object = clock.accept_beacon
    save: object = clock.save
    restore: object = clock.restore
    wake: object = clock.wake
    hold: object = clock.hold


@dataclass
class World:
    """True time, one device, one server, and the wires between. elapsed: true microseconds since the start.

    wires: (arrival, word) pairs; heard: words an eavesdropper kept. told: earliest as last shown, per boot.
    bound: (width right after an answer, boot_us of its question, what the oscillator was then taken for in ppm), None
    while nothing is promised.
    jump_us, slept_us: what the hardware clock said wrongly of all suspends of this boot, and what it said of them.
    thief: has stolen the online key of the start and lies as it likes; lied: one of its words counted.
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
    checks: int = 0
    suspends: int = 0
    jump_us: int = 0
    slept_us: int = 0
    thief: bool = False
    lied: bool = False
    disputes: int = 0

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        self.start_us = moment.to_ms(moment.parse(self.start)) * MS
        self.restart_server()
        self.stolen = self.signer
        behind = timedelta(days=self.chance.choice([0, 1, 4000]))
        self.built = max(moment.parse(self.start) - behind, moment.EPOCH)
        self.clock = self.functions.restore(None, self.built, "boot 0", 0)
        self.saved, self.saved_earliest = None, 0

    def boot_us(self):
        return floor((self.elapsed - self.booted) * self.rate()) + self.jump_us

    def rate(self):
        return 1 + Fraction(self.drift_ppm, SECOND)

    def run(self, steps):
        actions = [self.wait, self.wait, self.ask, self.ask, self.ask, self.beacon, self.replay, self.replay]
        actions += [self.suspend, self.save, self.restart, self.reboot, self.restart_server]
        actions += [self.lie, self.lie] if self.thief else []
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
        """Sleep: what came meanwhile is read late, and the hardware clock told the seconds of it alone."""
        if self.chance.random() < 0.5:
            self.question()
        before, slept = self.boot_us(), self.chance.randint(2 * SECOND, self.chance.choice([4 * SECOND, 72 * HOUR]))
        end = self.elapsed + slept
        for arrival, word in [wire for wire in self.wires if wire[0] <= end and wire[1][0] == "question"]:
            # The server is awake.
            self.wires.remove((arrival, word))
            self.move_to(max(self.elapsed, arrival))
            self.deliver(*word)
        self.move_to(end)
        shown = slept + self.chance.choice([-1, 1, Fraction(self.chance.randint(-99, 99), 100)]) * (SECOND - 1)
        self.jump_us += floor(shown) - (self.boot_us() - before)
        self.slept_us += floor(shown)
        self.suspends += 1
        self.clock = self.functions.wake(self.clock, self.boot_us(), self.slept_us)
        if self.bound is not None:
            self.bound = (self.bound[0] + 2 * clock.SLEEP_ERROR_US, *self.bound[1:])
        self.check()
        self.live(0)

    def send(self, word, least=0):
        """Put a word on the wire: lost, once or twice, each copy up to 2 s late, now and then 10 s."""
        for _ in range(self.chance.choice([0, 1, 1, 1, 2])):
            late = self.chance.choice([0, self.chance.randint(0, 2 * SECOND)])
            late += self.chance.choice([0] * 9 + [8 * SECOND])
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
        self.question()
        self.live(self.chance.randint(0, 4 * SECOND))

    def question(self):
        nonce = b64url(self.chance.randbytes(32))
        self.clock = clock.ask(self.clock, nonce, self.boot_us())
        self.send(("question", nonce))

    def hear_answer(self, answer, signer):
        self.heard.append(("answer", answer, signer))
        asked, now, ppm = self.clock.question, self.boot_us(), self.clock.bound_ppm
        mine = asked is not None and asked.nonce == answer.nonce
        passed = now - asked.boot_us if mine else 0
        delay = passed - (moment.to_ms(moment.parse(answer.sent)) - moment.to_ms(moment.parse(answer.received))) * MS
        try:
            self.clock = self.functions.accept_answer(self.clock, answer, signer, now)
        except Refused as refusal:
            self.expect(self.lied or not mine or not 0 <= delay <= 5 * SECOND, "an honest answer was refused")
            self.dispute(refusal)
            return
        self.accepted, self.disputes = self.accepted + 1, 0
        self.bound = (delay + 2 * answer.radiusMs * MS, now - passed, ppm)

    def hear_beacon(self, timestamp, signer):
        self.heard.append(("beacon", timestamp, signer))
        try:
            self.clock = self.functions.accept_beacon(self.clock, timestamp, signer, self.boot_us())
        except Refused as refusal:
            self.expect(refusal.code is Code.WRONG_SERVER, "an honest beacon was refused")

    def dispute(self, refusal):
        """Do as an agent does: three answers in a row that contradict the clock hold it."""
        if refusal.code is Code.CLOCK_JUMP:
            self.disputes += 1
            self.clock = replace(self.clock, question=None)
        if self.disputes >= 3:
            self.clock, self.bound = self.functions.hold(self.clock, self.boot_us()), None

    def lie(self):
        """Have the thief answer the open question, or tell a beacon, with any time at all."""
        now, asked = self.boot_us(), self.clock.question
        told_ms = floor((self.start_us + self.elapsed) / MS) + self.chance.choice([-1, 1]) * self.chance.choice(
            SHIFTS_MS
        )
        moment_ = moment.from_ms(max(0, told_ms))
        before = self.clock.earliest_at(now)
        try:
            if asked is not None and self.chance.random() < 0.6:
                word = TimeAnswer(
                    nonce=asked.nonce, received=moment.show(moment_), sent=moment.show(moment_), radiusMs=0
                )
                self.clock = self.functions.accept_answer(self.clock, word, self.stolen, now)
            else:
                self.clock = self.functions.accept_beacon(self.clock, moment_, self.stolen, now)
        except Refused as refusal:
            self.dispute(refusal)
            return
        self.lied, self.bound, self.disputes = True, None, 0
        most = moment.to_ms(self.stolen.not_after) * MS
        self.expect(self.clock.earliest_at(now) <= max(before, most), "the thief went beyond his end")

    def save(self):
        self.saved = self.functions.save(self.clock, f"boot {self.boots}", self.boot_us())
        self.saved_earliest = self.clock.earliest_at(self.boot_us())

    def restart(self):
        """Start the agent again within one boot: nothing is lost but the question."""
        self.save()
        self.clock = self.restored()

    def reboot(self):
        """Start the host again, perhaps without a save; the floor is all that may be known."""
        self.boots += 1
        self.booted, self.jump_us, self.slept_us = self.elapsed, 0, 0
        self.clock = self.restored()
        self.bound, self.told = None, self.saved_earliest

    def restored(self):
        boot, us = f"boot {self.boots}", self.boot_us()
        return self.functions.restore(self.saved, self.built, boot, us, slept_us=self.slept_us)

    def recover(self):
        """Outlive the stolen key and ask for 8 days: the device must come to the truth again, within one answer."""
        end = moment.to_ms(self.stolen.not_after) * MS - self.start_us
        self.move_to(max(self.elapsed, end + SECOND))
        self.restart_server()
        self.wires.clear()
        self.accepted = 0
        for _ in range(100):
            self.ask()
            self.live(2 * HOUR)
        clear = 2 * SECOND * 5 + 4 * self.radius_ms * MS
        true_us, now = self.start_us + self.elapsed, self.boot_us()
        self.expect(self.accepted > 0, "never recovers")
        self.expect(
            self.clock.earliest_at(now) - clear <= true_us <= self.clock.latest_at(now) + clear, "never recovers"
        )

    def check(self):
        now, true_us = self.boot_us(), self.start_us + self.elapsed
        self.checks += 1
        earliest, latest = self.clock.earliest_at(now), self.clock.latest_at(now)
        self.expect(self.lied or earliest <= true_us <= latest, "true time is outside")
        self.expect(earliest >= self.told, "earliest ran backwards")
        self.told = earliest
        if self.bound is not None:
            width, asked_us, ppm = self.bound
            drift = Fraction(2 * clock.DRIFT_PPM, SECOND) * (now - asked_us)
            if self.lied:
                # A thief may have the oscillator taken for a much worse one, and an honest answer be measured by it.
                ppm = max(ppm, self.clock.bound_ppm)
                drift = (Fraction(ppm, SECOND - ppm) + Fraction(ppm, SECOND + ppm)) * (now - asked_us)
            self.expect(latest - earliest <= width + drift + MS, "wider than promised")

    def expect(self, held, promise):
        if not held:
            raise Broken(promise)
