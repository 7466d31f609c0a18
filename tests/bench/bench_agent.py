"""What an agent weighs: resident memory with one device online, and what each import costs."""

import json
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
        (device,) = house.provision(1)
        agent = house.start_agent(device.folder)
        house.wait(lambda: len(house.reports(device.id)) >= SETTLE_REPORTS, "the agent reports")
        rss = psutil.Process(agent.pid).memory_info().rss / 2**20
    print(f"agent with one device online, idle: {rss:.1f} MB resident (bar {BAR_MB} MB)")


if __name__ == "__main__":
    main()
