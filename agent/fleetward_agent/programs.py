"""A driver's own program: it prints one JSON object of facts and ends. It runs beside the loop, never inside it.

No shell, no inherited environment, its own session; 5 s and 16 KiB at most, and only the facts the table knows. What it
prints to stderr is not kept: a driver may print anything there (C10: nothing biometric is ever logged). Source: C4.
"""

import os
import re
import selectors
import signal
import subprocess
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from fleetward_agent.drivers import FACTS, MOST_FACT_CHARS, Driver, Unnamed
from fleetward_agent.plug import MS_US, Plugged
from fleetward_schemas.errors import Refused
from fleetward_schemas.strict import read_object

TIME_US = 5_000 * MS_US
MOST_BYTES = 16 * 1024
MOST_AT_ONCE = 4
REAP_US = 10 * MS_US
"""How soon to look again for the end of a program that has said all it says."""
_NAME = re.compile(r"[A-Za-z]{1,24}", re.ASCII)
_TOLD = ("DEVNAME", "DEVPATH", "DEVTYPE", "SUBSYSTEM", "BUSNUM", "DEVNUM")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program told about a plug, or why there is nothing to tell."""

    plugged: Plugged
    facts: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(slots=True)
class _Run:
    plugged: Plugged
    program: str
    process: subprocess.Popen[bytes]
    until_us: int
    said: bytearray = field(default_factory=bytearray)
    whole: bool = False

    @property
    def fd(self) -> int:
        return -1 if self.process.stdout is None else self.process.stdout.fileno()


def facts_in(raw: bytes) -> dict[str, str]:
    """Read what a program printed.

    Raises:
        Unnamed: not one JSON object of known facts, each a short printable text.
    """
    try:
        document = read_object(raw)
    except Refused as refusal:
        raise Unnamed(f"its answer is {refusal.detail}") from None
    for name, value in document.items():
        if name not in FACTS:
            # C10: a name it invented is its word too; what does not look like one is not repeated.
            told = name if _NAME.fullmatch(name) else "?"
            raise Unnamed(f"its answer names {told!r}; known: {', '.join(FACTS)}")
        if not isinstance(value, str) or not 0 < len(value) <= MOST_FACT_CHARS or not value.isprintable():
            raise Unnamed(f"its {name} is no text of 1..{MOST_FACT_CHARS} printable characters")
    return document


class Programs:
    """Those that run and those that wait. Its file descriptor is readable when there is something to ``step`` for."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._queue: deque[tuple[Plugged, Driver]] = deque()
        self._runs: list[_Run] = []
        self._killed: list[subprocess.Popen[bytes]] = []

    def fileno(self) -> int:
        """Return a descriptor to wait on."""
        return self._selector.fileno()

    def ask(self, plugged: Plugged, driver: Driver) -> None:
        """Have a driver's program asked about a plug, as soon as there is room."""
        self._queue.append((plugged, driver))

    def drop(self, plugged: Plugged) -> None:
        """Ask no longer."""
        self._queue = deque(one for one in self._queue if one[0] != plugged)
        for run in [run for run in self._runs if run.plugged == plugged]:
            self._end(run)

    def step(self, now_us: int) -> list[Answer]:
        """Start what waits, hear what runs, end what takes too long."""
        self._killed = [process for process in self._killed if process.poll() is None]
        answers = []
        while self._queue and len(self._runs) < MOST_AT_ONCE:
            answers.append(self._start(*self._queue.popleft(), now_us))
        answers += [self._hear(run, now_us) for run in list(self._runs)]
        return [answer for answer in answers if answer is not None]

    def due_us(self, now_us: int) -> int | None:
        """Return when to step without being woken; None: there is nothing to wait for."""
        if self._queue and len(self._runs) < MOST_AT_ONCE:
            return now_us
        return min((now_us + REAP_US if run.whole else run.until_us for run in self._runs), default=None)

    def shutdown(self) -> None:
        """End all of them."""
        self._queue.clear()
        for run in list(self._runs):
            self._end(run)
        for process in self._killed:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        self._selector.close()

    def _start(self, plugged: Plugged, driver: Driver, now_us: int) -> Answer | None:
        told = {name: value for name, value in plugged.properties if name in _TOLD or name.startswith("ID_")}
        try:
            process = subprocess.Popen(
                driver.program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=told | _ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return Answer(plugged, problem=f"{driver.program[0]}: cannot be run: {error}")
        run = _Run(plugged, driver.program[0], process, now_us + TIME_US)
        os.set_blocking(run.fd, False)
        self._selector.register(run.fd, selectors.EVENT_READ)
        self._runs.append(run)
        return None

    def _hear(self, run: _Run, now_us: int) -> Answer | None:
        if not run.whole:
            self._read(run)
        if len(run.said) > MOST_BYTES:
            return self._conclude(run, f"says more than {MOST_BYTES} bytes")
        if run.whole and _has_ended(run.process):
            return self._conclude(run, "")
        return (
            self._conclude(run, f"no answer within {TIME_US // (1000 * MS_US)} s") if now_us >= run.until_us else None
        )

    def _read(self, run: _Run) -> None:
        """Read all there is: what was said in time counts, also where we were kept from looking meanwhile."""
        while len(run.said) <= MOST_BYTES:
            try:
                more = os.read(run.fd, MOST_BYTES + 1)
            except BlockingIOError:
                return
            run.said += more
            if not more:
                run.whole = True
                # A pipe at its end is readable for ever.
                self._selector.unregister(run.fd)
                return

    def _conclude(self, run: _Run, problem: str) -> Answer:
        code = self._end(run)
        problem = problem or (f"ended with {code}" if code else "")
        try:
            facts = {} if problem else facts_in(bytes(run.said))
        except Unnamed as unnamed:
            facts, problem = {}, str(unnamed)
        return Answer(run.plugged, facts, f"{run.program}: {problem}" if problem else "")

    def _end(self, run: _Run) -> int | None:
        """End a program and all it started; return its exit code if it has one already."""
        self._runs.remove(run)
        if not run.whole:
            self._selector.unregister(run.fd)
        if run.process.stdout is not None:
            run.process.stdout.close()
        # Not reaped yet, so the number still is this session's own.
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        if run.process.poll() is None:
            # One stuck in the kernel dies when the kernel lets it: nobody waits for that.
            self._killed.append(run.process)
        return run.process.returncode


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a program has ended, and leave it to be reaped."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
