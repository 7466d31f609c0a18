"""What an agent weighs: resident memory with one device online, and what each import costs."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.live.house import House

BAR_MB = 48
SETTLE_REPORTS = 3
IMPORTS = (
    "ssl",
    "sqlite3",
    "paho.mqtt.client",
    "pydantic",
    "cryptography.x509",
    "tinydb",
    "pyudev",
    "fleetward_schemas.messages",
    "fleetward_broker.link",
    "fleetward_agent.run",
)
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
        print(f"import {name:28} {ms:6.0f} ms  {mb:5.1f} MB")
    with tempfile.TemporaryDirectory() as name, House(Path(name)) as house:
        for switches in ((), ("-OO",)):
            rss, uss = weight(house, switches)
            how = " ".join(("python", *switches))
            print(f"agent with one device online, idle ({how}): {rss:.1f} MiB resident, {uss:.1f} own (bar {BAR_MB})")


def weight(house: House, switches: tuple[str, ...]) -> tuple[float, float]:
    """Return resident and unshared memory of a fresh agent that has reported a few times, in MiB."""
    (device,) = house.provision(1)
    command = [sys.executable, *switches, "-m", "fleetward_agent", "run", "--device", str(device.folder)]
    for _ in range(2):  # The second start finds compiled modules and an enrolled device, as in the field.
        before = len(house.reports(device.id))
        agent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""})
        house.agents.append(agent)
        house.wait(lambda: len(house.reports(device.id)) >= before + SETTLE_REPORTS, "the agent reports")  # noqa: B023
        memory = psutil.Process(agent.pid).memory_full_info()
        agent.terminate()
        agent.wait(30)
    return memory.rss / 2**20, memory.uss / 2**20


if __name__ == "__main__":
    main()
