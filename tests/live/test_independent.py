"""A client that knows only the wire's description, against the real broker and server."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetward_sandbox.provision import Made
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_schemas.topics import DeviceId
from fleetward_server.state import Presence, Use
from tests.live.house import House

pytestmark = pytest.mark.live

CLIENT = Path(__file__).with_name("independent_client.py")
TOLD = Path(__file__).with_name("independent_upgrade.py")
KEYED = Path(__file__).with_name("independent_keys.py")
BORROWED = {"cryptography", "paho"}
MOST_LINES = 250
WAIT_S = "60"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as made:
        yield made


class Run:
    """The client as a process of its own, which finds nothing of the project on its path."""

    def __init__(self, made: Made, *words: str, client: Path = CLIENT) -> None:
        command = [sys.executable, str(client), str(made.folder), *words]
        apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=made.folder, env=apart)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self) -> Any:
        """Wait for its end; it ended well, refused nothing, and its last line says how it went."""
        output, errors = self.process.communicate(timeout=300)
        assert (self.process.returncode, errors) == (0, "")
        return json.loads(output.splitlines()[-1])


def is_online(house: House, device_id: str) -> bool:
    row = house.device(device_id)
    return row is not None and row.state is State.REGISTERED and row.presence is Presence.ONLINE


@pytest.mark.parametrize("level", Certification)
def test_the_description_is_enough(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    with Run(made, "--reports", "3", "--wait-command", WAIT_S) as run:
        house.wait(lambda: is_online(house, made.id), "registered and online")
        order = house.operator.send_command(made.id, "collect-info", {}, 600, "look")
        assert run.end() == {"reports": 3, "acked": 3, "command": "succeeded", "device": made.id}
    done = house.store.command(order.id)
    assert done is not None
    assert done.step is Step.SUCCEEDED
    assert len(house.reports(made.id)) == 3
    assert len(house.reports(made.id, "info")) == 1
    assert [json.loads(told.body)["state"] for told in house.reports(made.id, "result")] == ["accepted", "succeeded"]
    assert house.refusals(made.id) == house.refusals(f"f-{made.id}") == {}
    house.wait(lambda: not is_online(house, made.id), "it said goodbye")


@pytest.mark.parametrize("level", Certification)
def test_a_second_run_goes_on_with_the_first_ones_certificates(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    for run_number in (1, 2):
        with Run(made, "--reports", "2") as run:
            assert run.end() == {"reports": 2, "acked": 2, "command": None, "device": made.id}
        assert len(house.reports(made.id)) == 2 * run_number
    assert house.device(made.id).enrolments == 1  # type: ignore[union-attr]
    assert house.refusals(made.id) == house.refusals(f"f-{made.id}") == {}


@pytest.mark.parametrize("level", Certification)
def test_keys_change_hands_and_a_device_retires_by_the_description_alone(house: House, level: Certification) -> None:
    (made,) = house.provision(1, level)
    with Run(made, "--patience", WAIT_S, client=KEYED) as run:
        house.wait(lambda: is_online(house, made.id), "registered and online")
        for verb in ("rotate-key", "rotate-key", "retire"):
            order = house.operator.send_command(made.id, verb, {}, 600, "test")
            house.wait(lambda order=order: step(house, order.id) is Step.SUCCEEDED, f"{verb} is obeyed")
        assert run.end() == ["rotate-key", "rotate-key", "retire"]
    assert not list((made.folder / "independent").iterdir())
    found = [one.state for one in house.store.certificates(DeviceId(made.id)) if one.use is Use.DEVICE]
    assert sorted(found) == ["current", "superseded", "superseded"]
    assert house.refusals(made.id) == {}
    house.wait(lambda: not is_online(house, made.id), "it said goodbye")


def step(house: House, command_id: str) -> Step | None:
    found = house.store.command(command_id)
    return None if found is None else found.step


def test_a_device_nobody_listed_fails_with_the_servers_reason(house: House) -> None:
    (made,) = house.provision(1, Certification.L1, listed=False)
    with Run(made) as run:
        output, errors = run.process.communicate(timeout=300)
        assert run.process.returncode == 1
    assert output == ""
    assert errors.startswith("failed: ")
    assert "not-listed" in errors


def test_it_fits_a_few_screens() -> None:
    assert len(CLIENT.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    ("client", "borrowed"),
    [
        (CLIENT, BORROWED),
        (KEYED, {"cryptography", "independent_client"}),
        (TOLD, {"independent_client"}),
    ],
    ids=["client", "keys", "upgrade"],
)
def test_it_borrows_nothing_but_a_tls_and_an_mqtt_library(client: Path, borrowed: set[str]) -> None:
    imported = set()
    for node in ast.walk(ast.parse(client.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == borrowed
