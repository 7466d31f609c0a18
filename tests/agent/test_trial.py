"""On trial, a loop that turns winds its alarm up; without a trial there is no alarm."""

import json
import subprocess
import sys
from pathlib import Path

from fleetward_agent import launch

TURNS = """
import json, signal, sys
from pathlib import Path
from fleetward_agent.trial import Trial
file, told = Path(sys.argv[1]), json.loads(sys.argv[2])
left = []
trial = Trial(told)
for there in (True, True, False, True):
    file.write_text("{}") if there else file.unlink()
    signal.alarm(60)
    trial()
    left.append(signal.alarm(0))
print(json.dumps(left))
"""


def turns(folder: Path, told: dict[str, str]) -> list[int]:
    """Return what the alarm had left after turns with a trial, with one, without, and with one again."""
    words = [sys.executable, "-c", TURNS, str(folder / launch.TRIAL), json.dumps(told)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    left: list[int] = json.loads(done.stdout)
    return left


def test_the_alarm_is_wound_up_until_the_trial_is_over(tmp_path: Path) -> None:
    left = turns(tmp_path, {launch.SLOTS: str(tmp_path), launch.ON_TRIAL: "120"})

    assert left[:2] == [launch.HANG_S, launch.HANG_S]
    assert left[2:] == [0, 60], "what comes later is no trial of this process"


def test_nobody_tries_an_agent_that_was_started_otherwise(tmp_path: Path) -> None:
    assert turns(tmp_path, {launch.SLOTS: str(tmp_path)}) == [60, 60, 60, 60]
