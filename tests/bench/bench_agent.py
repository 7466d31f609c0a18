"""What an agent weighs: resident memory with one device online, and what each import costs."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.bench.bars import NO_BAR, at_most
from tests.live.house import House

BAR_MB = 48
MB_PER_MIB = 2**20 / 10**6
UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "fleetward-agent.service"
BY_HAND = ("-m", "fleetward_agent", "run", "--device")
SETTLE_REPORTS = 3
IMPORTS = (
    "ssl",
    "sqlite3",
    "paho.mqtt.client",
    "msgspec",
    "cryptography.x509",
    "tinydb",
    "pyudev",
    "fleetward_schemas.messages",
    "fleetward_broker.link",
    "fleetward_agent.run",
)
LIBRARIES = ("sqlite3", "msgspec", "tinydb")
CLIENT = Path(__file__).parents[1] / "live" / "independent_client.py"
FLOOR = """
import importlib, sys
client, folder, *names = sys.argv[1:]
for name in names: importlib.import_module(name)
class One(sys.modules["msgspec"].Struct): one: int
sys.argv = [client, folder, "--reports", "2"]
exec(compile(open(client).read(), client, "exec"))
with open("/proc/self/statm") as f: print(int(f.read().split()[1]) * 4096 / 2**20)
"""
PROBE = """
import json, sys, time
def rss():
    with open("/proc/self/statm") as f: return int(f.read().split()[1]) * 4096
before, began = rss(), time.perf_counter()
__import__(sys.argv[1])
print(json.dumps([(time.perf_counter() - began) * 1000, (rss() - before) / 2**20]))
"""


def main() -> None:
    """Print memory and imports."""
    for name in IMPORTS:
        done = subprocess.run([sys.executable, "-c", PROBE, name], capture_output=True, text=True, check=True)
        ms, mb = json.loads(done.stdout)
        print(f"import {name:28} {ms:6.0f} ms  {mb:5.1f} MB ({NO_BAR})")
    words, settings = service()
    with tempfile.TemporaryDirectory() as name, House(Path(name)) as house:
        print(
            f"its libraries, under a client of 250 lines: {floor(house, words, settings):.1f} MiB resident ({NO_BAR})"
        )
        for how, command, env in (("fleetward-agent run", BY_HAND, {}), ("as its service", words, settings)):
            rss, uss = weight(house, command, env)
            print(
                f"agent with one device online, idle ({how}): {rss:.1f} MiB = {rss * MB_PER_MIB:.1f} MB resident, "
                f"{uss:.1f} MiB own ({at_most(rss * MB_PER_MIB, BAR_MB, ' MB')})"
            )


def floor(house: House, words: tuple[str, ...], settings: dict[str, str]) -> float:
    """Return what the agent's libraries weigh in MiB, a line open and none of our code: no agent can weigh less."""
    (device,) = house.provision(1)
    command = [sys.executable, *words[: words.index("-m")], "-c", FLOOR, str(CLIENT), str(device.folder), *LIBRARIES]
    for _ in range(2):  # The second run finds compiled modules.
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(settings))
    return float(done.stdout.splitlines()[-1])


def service() -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what the unit gives Python: its words, without the last, and the environment."""
    unit = UNIT.read_text()
    (line,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    settings = dict(
        word.split("=", 1) for text in re.findall(r"^Environment=(.+)$", unit, re.MULTILINE) for word in text.split()
    )
    return tuple(shlex.split(line)[1:-1]), settings


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return ours with these on top, and compiled modules kept."""
    return os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | settings


def weight(house: House, words: tuple[str, ...], settings: dict[str, str]) -> tuple[float, float]:
    """Return resident and unshared memory of a fresh agent that has reported a few times, in MiB."""
    (device,) = house.provision(1)
    command = [sys.executable, *words, str(device.folder)]
    for _ in range(2):  # The second start finds compiled modules and an enrolled device, as in the field.
        before = len(house.reports(device.id))
        agent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment(settings))
        house.agents.append(agent)
        house.wait(lambda: len(house.reports(device.id)) >= before + SETTLE_REPORTS, "the agent reports")  # noqa: B023
        memory = psutil.Process(agent.pid).memory_full_info()
        agent.terminate()
        agent.wait(30)
    return memory.rss / 2**20, memory.uss / 2**20


if __name__ == "__main__":
    main()
