"""Drivers' own programs as real processes: whatever they do, the loop goes on and somebody is told why."""

import re
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward_agent.drivers import Driver
from fleetward_agent.plug import Plugged
from fleetward_agent.programs import MOST_AT_ONCE, Answer, Programs
from tests.live.house import alive

pytestmark = pytest.mark.live
PLUG = Plugged("1-2", (("DEVNAME", "/dev/x"), ("ID_SERIAL_SHORT", "SN 1"), ("SECRET", "no")))
DEADLINE_S = 120
NOW_US = 1_000_000_000
"""Time stands still: how long the machine takes for a program is not what is asked here."""


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    made.shutdown()


def shell(script: str) -> Driver:
    return Driver(program=["/bin/sh", "-c", script])


def answers(programs: Programs, count: int = 1, ahead_us: int = 0) -> list[Answer]:
    """Step as the agent does: when woken or when due. ahead_us: how much later it is than when it was asked."""
    found: list[Answer] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < deadline
        now_us = NOW_US + ahead_us
        due_us = programs.due_us(now_us)
        select.select([programs], [], [], 0.05 if due_us is None else min(0.05, max(0, due_us - now_us) / 1e6))
        found += programs.step(now_us)
    return found


def ask(programs: Programs, driver: Driver) -> Answer:
    programs.ask(PLUG, driver)
    return answers(programs)[0]


def test_a_program_tells_facts_from_the_properties_it_is_given(programs: Programs) -> None:
    answer = ask(programs, shell("""printf '{"serialNo":"%s","model":"%s"}' "$ID_SERIAL_SHORT" "${DEVNAME#/dev/}" """))

    assert answer == Answer(PLUG, {"serialNo": "SN 1", "model": "x"})


def test_a_program_inherits_nothing(programs: Programs) -> None:
    script = """printf '{"model":"%s","make":"%s"}' "$(env | cut -d= -f1 | sort | tr '\\n' ' ')" "$(pwd)" """
    answer = ask(programs, shell(script))

    given = set(answer.facts["model"].split()) - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert (given, answer.facts["make"]) == ({"DEVNAME", "ID_SERIAL_SHORT", "LANG", "PATH"}, "/")


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (["/no/such/driver"], "/no/such/driver: cannot be run: .*No such file"),
        (["/etc/passwd"], "/etc/passwd: cannot be run: .*Permission denied"),
        (["/bin/sh", "-c", "exit 3"], "/bin/sh: ended with 3"),
        (["/bin/sh", "-c", 'printf "{}"; kill -9 $$'], "/bin/sh: ended with -9"),
        (["/bin/true"], "/bin/true: its answer is not JSON"),
        (["/bin/echo", "hello"], "/bin/echo: its answer is not JSON"),
        (["/bin/echo", '{"picture":"x"}'], "/bin/echo: its answer names 'picture'"),
        (["/bin/echo", '{"Rk1SACAyMAAAAAA":"x"}'], r"/bin/echo: its answer names '\?'"),
        (["/usr/bin/yes"], "/usr/bin/yes: says more than 16384 bytes"),
        (["/bin/sh", "-c", "yes >&2 & echo '[1]'"], "/bin/sh: its answer is"),
    ],
)
def test_what_goes_wrong_is_told_and_tells_no_facts(programs: Programs, program: list[str], says: str) -> None:
    answer = ask(programs, Driver(program=program))

    assert answer.facts == {}
    assert re.match(says, answer.problem), answer.problem


def test_a_program_that_does_not_answer_is_ended_with_all_it_started(programs: Programs, tmp_path: Path) -> None:
    programs.ask(PLUG, shell(f"sleep 600 & echo $! > {tmp_path}/child; wait"))
    assert programs.step(NOW_US) == []
    deadline = time.monotonic() + DEADLINE_S
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        assert time.monotonic() < deadline

    (answer,) = answers(programs, ahead_us=6_000_000)

    assert answer.problem == "/bin/sh: no answer within 5 s"
    require_end(tmp_path / "child")


def require_end(file: Path) -> None:
    """Wait until the process whose number stands in ``file`` is no more."""
    child, deadline = int(file.read_text()), time.monotonic() + DEADLINE_S
    while alive(child):
        assert time.monotonic() < deadline


def test_what_a_program_leaves_behind_is_ended(programs: Programs, tmp_path: Path) -> None:
    script = f"sleep 600 >/dev/null & echo $! > {tmp_path}/child; echo '{{}}'"

    assert ask(programs, shell(script)) == Answer(PLUG)
    require_end(tmp_path / "child")


def test_a_program_that_leaves_its_output_open_is_not_waited_for(programs: Programs) -> None:
    programs.ask(PLUG, shell("echo '{}'; sleep 600 &"))
    programs.step(NOW_US)

    (answer,) = answers(programs, ahead_us=6_000_000)

    assert answer.problem == "/bin/sh: no answer within 5 s"


def test_stepping_never_waits_for_a_program(programs: Programs) -> None:
    programs.ask(PLUG, shell("sleep 600"))
    began = time.monotonic()
    for _ in range(100):
        programs.step(NOW_US)

    # It would have waited for ten minutes.
    assert time.monotonic() - began < 60


def test_twenty_programs_take_turns(programs: Programs) -> None:
    plugs = [Plugged(str(number), (("ID_SERIAL_SHORT", str(number)),)) for number in range(20)]
    for plug in plugs:
        programs.ask(plug, shell("""printf '{"serialNo":"%s"}' "$ID_SERIAL_SHORT" """))
    found = programs.step(NOW_US)
    assert len(programs._runs) <= MOST_AT_ONCE

    found += answers(programs, 20 - len(found))

    assert {answer.plugged for answer in found} == set(plugs)
    assert all(answer.facts == {"serialNo": answer.plugged.port} for answer in found)


def test_a_plug_that_was_pulled_out_gets_no_answer(programs: Programs) -> None:
    other = Plugged("1-3")
    programs.ask(PLUG, shell("sleep 600"))
    programs.step(NOW_US)
    programs.drop(PLUG)
    programs.ask(other, shell("echo '{}'"))

    assert [answer.plugged for answer in answers(programs)] == [other]
