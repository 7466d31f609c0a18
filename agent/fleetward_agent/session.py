"""One device's session as a value: all that its steps know, and the few moves that every capability shares.

``kept`` is the durable part: a turn whose ``kept`` differs is written down before anything of it leaves.
Source: deploy/decisions/0001 "How data flows"; protocol section 5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleetward_agent.budget import Budget
from fleetward_agent.instant import SECOND_US, Instant
from fleetward_agent.keys import DEVICE, TRANSPORT
from fleetward_agent.state import Kept, Pair, RefusedTime
from fleetward_agent.upgrade_state import Work
from fleetward_agent.walk import DOORS, QUESTIONS, Door, Stage, Step, advance
from fleetward_schemas.certificates import Anchors, read_certificate, thumbprint
from fleetward_schemas.clock import Clock
from fleetward_schemas.commands import ResultState, Verb
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose
from fleetward_schemas.ids import RANDOM_BYTES, next_id
from fleetward_schemas.receipts import AlertCode
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.shapes import Body
from fleetward_schemas.strict import b64_der, b64url
from fleetward_schemas.topics import DeviceId, Role

FIRST_REPEAT_S = 5
MOST_REPEAT_S = 300
FIRST_PACE = 4
LEAST_GAP_US = SECOND_US  # at most one question of a kind a second
_TELLING = {Stage.GREETING: "status", Stage.DEVICE_TIME: "time", Stage.WORKING: "time"}
"""The question whose silence tells that the server does not know us, at each stage of the device's own door."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What never changes while the agent runs. health_s: how long a new version has to prove well.

    run: this run of the agent, unlike any other.
    """

    device_id: DeviceId
    identity: DigitalId
    certification: Certification
    purpose: Purpose
    env: Environment
    anchors: Anchors
    boot_id: str
    started_us: int
    ftm: bool
    need_ms: int = 1000
    health_s: int = 600
    run: str = ""
    mosip: MosipAnchors | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A question repeated until answered. body: None for ``time``, whose every question is a new one."""

    id: str
    body: Body | None
    due_us: int
    in_reply_to: str | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Flight:
    """A report that was sent and not acknowledged. due_us: when it is sent again."""

    due_us: int
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A command accepted and not finished. started_us: None until work starts."""

    command_id: str
    verb: Verb
    params: str
    expires_ms: int
    started_us: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Refusals of one code since its last alert. silent_until_us: at most one alert a minute."""

    count: int
    first: datetime
    last: datetime
    silent_until_us: int = 0


@dataclass(frozen=True, slots=True)
class Greeting:
    """The hello that is open or was answered last; ``enrolled`` must answer it."""

    id: str
    nonce: str


@dataclass(frozen=True, slots=True)
class OpenReport:
    """A telemetry report not sent yet, to which readings may still be added. readings: JSON of each."""

    id: str
    readings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """See the fields' own classes. door: of the line that is open or being opened, None while there is none.

    dials: failed connections in a row. dial_us, hello_us, rest_us: not before this.
    refused_since_us: since when the broker refuses <id>. ignored_us: for how long a server that is there has answered
    <id> nothing; beacon_us: when it was heard last. presence: this connection's name in ``status``.
    provisional: digital ID used before the time is known. asked_us: when a question of each kind left last.
    synced_us: when the time was learnt last. refused_times: answers and beacons that did not count; disputes: how many
    in a row contradict the clock. counts: for telemetry and tests.
    old: the pair in use is the previous one. redial: the line is to be closed and another opened. pair_refusals,
    pair_us: refused dials with the pair in use, and since when its ``online`` may be answered. order_row: what the
    outbox says of the key command. retired, emptied: nothing is said any more, nor kept in the outbox; the keys go.
    budget: of a metered link. pace: how much telemetry may be under way, as the server's receipts allow it. work: of
    upgrades.
    """

    facts: Facts
    kept: Kept
    clock: Clock
    stage: Stage
    door: Door | None = None
    connected: bool = False
    dials: int = 0
    dial_us: int = 0
    refused_since_us: int | None = None
    ignored_us: int = 0
    beacon_us: int = -1
    presence: str = ""
    greeted_once: bool = False
    provisional: str | None = None
    hello: Greeting | None = None
    enrol_id: str | None = None
    server_nonce: str | None = None
    csr_keys: tuple[str, str] | None = None
    lapse_us: int = 0
    hello_us: int = 0
    rest_us: int = 0
    asks: Mapping[str, Ask] = field(default_factory=dict)
    asked_us: Mapping[str, int] = field(default_factory=dict)
    synced_us: int | None = None
    refused_times: tuple[RefusedTime, ...] = ()
    disputes: int = 0
    last_id: str | None = None
    windows: Mapping[tuple[str, str], ReplayWindow] = field(default_factory=dict)
    flight: Mapping[str, Flight] = field(default_factory=dict)
    telemetry_us: int = 0
    open_report: OpenReport | None = None
    jobs: tuple[Job, ...] = ()
    tallies: Mapping[AlertCode, Tally] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    save_us: int = 0
    old: bool = False
    redial: bool = False
    pair_refusals: int = 0
    pair_us: int | None = None
    order_row: ResultState | None = None
    retired: bool = False
    emptied: bool = False
    budget: Budget = field(default_factory=Budget)
    pace: int = FIRST_PACE
    work: Work = field(default_factory=Work)

    @property
    def pair(self) -> Pair | None:
        """The pair in use: during a rotation the new one or the one before, whichever the server takes."""
        return self.kept.previous if self.old and self.kept.previous is not None else self.kept.pair

    @property
    def retiring(self) -> bool:
        """Whether nothing may be said any more but the time, the status and one result."""
        return self.kept.order is not None and self.kept.order.verb is Verb.RETIRE

    @property
    def echoes(self) -> frozenset[str]:
        """The digital IDs that the server may echo: this stage's, and in a rotation the other pair's."""
        both = () if self.kept.pair is None or self.kept.previous is None else (self.kept.pair, self.kept.previous)
        one = set() if self.digital_id is None else {self.digital_id}
        return frozenset(one | {pair.digital_id for pair in both})

    @property
    def principal(self) -> str:
        """The name on the line at this stage."""
        door = DOORS[self.stage]
        return f"f-{self.facts.device_id}" if door is None or door.role is Role.FACTORY else self.facts.device_id

    @property
    def digital_id(self) -> str | None:
        """The digital ID this stage speaks with, and the only one the server may echo."""
        door = DOORS[self.stage]
        if door is not None and door.role is Role.DEVICE:
            return None if self.pair is None else self.pair.digital_id
        return self.provisional if self.kept.candidate is None else self.kept.candidate.digital_id

    @property
    def certificate_end(self) -> datetime | None:
        """When the first of our two certificates ends; during a rotation of the new ones."""
        if self.kept.pair is None:
            return None
        leaves = (self.kept.pair.device_chain[0], self.kept.pair.transport_chain[0])
        return min(read_certificate(b64_der(leaf)).not_valid_after_utc for leaf in leaves)

    @property
    def current(self) -> str | None:
        """Thumbprint of the device certificate held."""
        return None if self.kept.pair is None else thumbprint(b64_der(self.kept.pair.device_chain[0]))


def move(session: Session, step: Step) -> Session:
    """Return the session at its next stage; questions that do not belong there are dropped."""
    stage = advance(session.stage, step)
    asks = {kind: ask for kind, ask in session.asks.items() if kind in QUESTIONS[stage]}
    return replace(session, stage=stage, asks=asks)


def new_id(session: Session, at: Instant, label: str) -> tuple[Session, str]:
    """Return a fresh message id and the session that has used it."""
    made = next_id(session.clock.now(at.boot_us), session.last_id, at.draw(f"id {label}", RANDOM_BYTES))
    return replace(session, last_id=made), made


def key_names(at: Instant) -> tuple[str, str]:
    """Return names for a device key and a transport key that no key had."""
    name = b64url(at.draw("key names", 9)).replace("_", "-").lower()
    return f"{DEVICE}{name}", f"{TRANSPORT}{name}"


def doom(session: Session, names: Iterable[str]) -> Kept:
    """Return what is kept, with keys that nothing needs any more on the list of those to be destroyed."""
    return replace(session.kept, doomed=tuple(sorted({*session.kept.doomed, *names} - {""})))


def swapped(session: Session) -> Session:
    """Return the session with the other pair in use."""
    return replace(session, old=not session.old, pair_refusals=0, pair_us=None)


def put_ask(session: Session, kind: str, ask: Ask) -> Session:
    """Open a question, in place of one of its kind; it leaves a second after the last one at the earliest."""
    if kind not in QUESTIONS[session.stage]:
        raise LocalMistake(f"{kind} is not asked while {session.stage}")
    earliest = session.asked_us.get(kind, -LEAST_GAP_US) + LEAST_GAP_US
    return replace(session, asks={**session.asks, kind: replace(ask, due_us=max(ask.due_us, earliest))})


def want_time(session: Session, at: Instant) -> Session:
    """Return the session with a time question due as soon as one may be asked."""
    # The id is made when the question leaves, for every question is a new one.
    return put_ask(session, "time", Ask("", None, at.boot_us)) if "time" in QUESTIONS[session.stage] else session


def drop_ask(session: Session, kind: str) -> Session:
    """Close a question."""
    if kind not in session.asks:
        return session
    return replace(session, asks={name: ask for name, ask in session.asks.items() if name != kind})


def asked(session: Session, kind: str, ask: Ask, at: Instant) -> Session:
    """Return the session with the question as sent now: due again after 5 s, doubling to 5 minutes, +- 50 %."""
    wait = min(MOST_REPEAT_S, FIRST_REPEAT_S * 2 ** min(ask.tries, 16)) * (0.5 + at.chance(f"repeat {kind}"))
    sent = replace(ask, tries=ask.tries + 1, due_us=at.after_s(wait))
    times = {**session.asked_us, kind: at.boot_us}
    ignored_us = session.ignored_us + _ignored(session, kind, ask, at)
    return replace(session, asks={**session.asks, kind: sent}, asked_us=times, ignored_us=ignored_us)


def _ignored(session: Session, kind: str, ask: Ask, at: Instant) -> int:
    """Return for how long this question, asked on this line before, was left open by a server that is there.

    Its beacons show that; while the time is unknown none is looked at, and the line itself must do.
    """
    since = session.asked_us.get(kind)
    if kind != _TELLING.get(session.stage) or ask.tries == 0 or since is None:
        return 0
    there = session.stage is Stage.DEVICE_TIME or session.beacon_us >= since
    return at.boot_us - since if there else 0


def count(session: Session, name: str, by: int = 1) -> Session:
    """Return the session with one of its counters raised."""
    return replace(session, counts={**session.counts, name: session.counts.get(name, 0) + by})
