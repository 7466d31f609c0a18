"""What the unit starts, without documentation or command line, is the whole agent: enrols, reports, obeys, leaves."""

import re
import shlex
import sys
from pathlib import Path
from subprocess import Popen

import pytest

from fleetward_schemas.commands import Step
from fleetward_server.state import Presence
from tests.live.house import House

pytestmark = pytest.mark.live
UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "fleetward-agent.service"


def test_the_service_walks_like_the_command(tmp_path: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
    with House(tmp_path) as house, (tmp_path / "service.log").open("wb") as log:
        (made,) = house.provision(1)
        service = Popen([sys.executable, *shlex.split(line)[1:-1], str(made.folder)], stderr=log)
        house.agents.append(service)
        house.wait(lambda: house.reports(made.id), "the service reports")

        order = house.operator.send_command(made.id, "collect-info", {}, 600, "look")
        house.wait(lambda: house.store.command(order.id).step is Step.SUCCEEDED, "its command is answered")  # type: ignore[union-attr]
        service.terminate()

        assert service.wait(60) == 0
        house.wait(lambda: house.device(made.id).presence is Presence.OFFLINE, "it said goodbye")  # type: ignore[union-attr]
